"""`attribute`: scores for every edge, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation.batches import batching, shape_of
from sae_circuits.ablation.interventions import Intervention
from sae_circuits.ablation.values import Intervening, intervention_name
from sae_circuits.attribution.job import AttributionJob
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.methods import ELSEWHERE, METHODS
from sae_circuits.attribution.problem import AnyProblem, Problem
from sae_circuits.cache import check_model
from sae_circuits.costs.memory import Asked, attribution_need
from sae_circuits.errors import GraphError, OptionError, unknown
from sae_circuits.graph import Provenance, SampledScores, Scores, TensorGraph
from sae_circuits.graph.given import require_graph
from sae_circuits.metrics import Metric, get, logit_diff, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.precision import wide_dtype
from sae_circuits.provenance import provenance_of
from sae_circuits.shards import Means, Partial, Workers, run_shards
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task
from sae_circuits.tasks.given import require_task
from sae_circuits.tasks.spans import Spans


def methods() -> tuple[str, ...]:
    """The names of the methods that `attribute` knows."""
    return tuple(METHODS)


@overload
def attribute(
    model: Any, graph: TensorGraph, task: Task, *, metric: str | Metric = ...,
    method: str | Method = ..., intervention: str = ..., batch_size: int | None = ...,
    memory: Memory | None = ..., seed: int = ..., keep: None = ..., workers: Workers | None = ...,
    folder: str | Path | None = ..., **options: Any,
) -> Scores: ...  # fmt: skip
@overload
def attribute(
    model: Any, graph: TensorGraph, task: Task, *, keep: Literal["example", "batch"],
    metric: str | Metric = ..., method: str | Method = ..., intervention: str = ...,
    batch_size: int | None = ..., memory: Memory | None = ..., seed: int = ...,
    workers: Workers | None = ..., folder: str | Path | None = ..., **options: Any,
) -> SampledScores: ...  # fmt: skip
def attribute(
    model: Any,
    graph: TensorGraph,
    task: Task,
    *,
    metric: str | Metric = logit_diff,
    method: str | Method = "eap-ig",
    intervention: Intervening = "corrupt",
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    keep: str | None = None,
    workers: Workers | None = None,
    folder: str | Path | None = None,
    **options: Any,
) -> Scores:
    """Estimate what corrupting each edge alone would do to the metric.

        score(u -> v) = (dm / dv) (u_corrupt - u_clean)

    in the metric's unit, summed over positions, mean over examples; `method` says at which points
    the gradient is taken. Negative: corrupting the edge lowers the metric.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        graph: which edges to score: `TensorGraph.from_model(model)`, or a subgraph.
        task: the prompts.
        metric: one number per example from the logits, or a name (see `sae_circuits.metrics`).
        method: a name of `methods()`, or a `Method` of one's own.
        intervention: what a corrupted edge would carry (see `ablate`).
        batch_size: examples at a time; by default as many as `memory` allows.
        memory: to stay under beside the model's weights, such as "8GiB", or "50%" of the device's;
            by default 1 GiB (4 GiB on a GPU), or what one example takes where that is more.
        seed: of the `resample` intervention and of the `random` method.
        keep: "example" or "batch" to keep the scores of each beside their mean (`SampledScores`,
            with standard errors), in the same pass where the method scores spans; other methods
            run example by example.
        workers: what works on the examples' shards (see `sae_circuits.workers`); this process by
            default. The scores do not depend on it.
        folder: where each shard is kept as it is done; the same call goes on from what is there.
        options: of the method, such as `steps=5, rule="midpoint"` of `eap-ig`.

    Raises:
        UnknownName: no such method, metric, intervention or option.
        OptionError: an intervention for which the method is not defined; another `keep`; memory
            that one example does not fit.
        GraphError: a graph of another model.
        ContextError: a prompt longer than the model's context.
        MetricError: a metric that is not differentiable, or constant where gradients are taken.
        NumericalError: NaN or infinity, with the place and the example.
        ShardError: with `workers` or a `folder`: shards that failed, after the others are done.
        OutputError: a folder that holds shards of another run, or cannot be written.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> graph = sc.TensorGraph.from_model(model)
        >>> sc.attribute(model, graph, task, method="eap")
        Scores(eap, ioi, logit_diff; TensorGraph('demo': 21 writers, 53 readers, 479 edges))
    """
    if keep not in (None, "example", "batch"):
        raise OptionError(f"keep={keep!r}: 'example' or 'batch', or None for the mean alone")
    how: dict[str, Any] = {
        "metric": get(metric),
        "method": find_method(method),
        "intervention": intervention,
        "batch_size": batch_size,
        "memory": memory,
        "seed": seed,
        "options": options,
    }
    means = Means(workers, folder)
    if keep is not None and how["method"].search is not None:
        raise OptionError(
            f"method {how['method'].name!r} looks at all examples together, so that there are "
            f"none to keep for each {keep}: take subsets of the task instead"
        )
    if keep is None:
        total, made = score_task(Problem, model, graph, task, means=means, **how)
        return Scores(graph, graph.flat(total), made)
    job = prepare(Problem, model, graph, task, keep=keep, **how)
    found = list(run_shards(job, job.shards, means))
    job.require_slope(_flat(found))
    each, sizes = (torch.cat([one[name] for one in found]) for name in ("each", "sizes"))
    total = torch.zeros(graph.n_edges, dtype=torch.float64)
    for score in each:
        total += score
    dtype = score_dtype(model)
    return SampledScores(
        graph,
        (total / len(task)).to(dtype),
        job.made,
        each=(each / sizes[:, None]).to(dtype),
        sizes=sizes,
    )


def score_task(
    kind: type[Problem],
    model: Any,
    graph: TensorGraph,
    task: Task,
    *,
    means: Means | None = None,
    **how: Any,
) -> tuple[Float[Tensor, "*span src dest"], Provenance]:
    """What a method gives for a whole task, as a mean over examples, and how it was made.

    Args:
        kind: what a batch is asked for: scores of edges, or of nodes.
        means: by which it is run.
        how: what `prepare` takes.
    """
    job = prepare(kind, model, graph, task, **how)
    total, flat = None, list[bool]()
    for found in run_shards(job, job.shards, means):
        total = found["total"] if total is None else total + found["total"]
        flat += _flat([found])
    assert total is not None  # a task is never empty
    job.require_slope(flat)
    n = 1 if job.method.search is not None else len(task)
    return (total / n).to(score_dtype(model)).cpu(), job.made


def _flat(found: Sequence[Partial]) -> list[bool]:
    return [flat for one in found for flat in one["flat"].tolist()]


def score_dtype(model: Any) -> torch.dtype:
    """What scores are held in: the model's dtype, or float32 where that is narrower."""
    return wide_dtype(Adapter.of(model).dtype)


def prepare(
    kind: type[AnyProblem],
    model: Any,
    graph: TensorGraph,
    task: Task,
    *,
    metric: Metric,
    method: Method,
    intervention: Intervening,
    batch_size: int | None,
    memory: Memory | None,
    seed: int,
    options: dict[str, Any],
    spans: Spans | None = None,
    keep: str | None = None,
) -> AttributionJob[AnyProblem]:
    """A method on a task, with all that it needs of the whole task worked out.

    Args:
        kind: what each batch becomes.
        spans: of the prompts, where each has scores of its own.
        keep: whether the scores of each example, or batch, are kept.
    """
    if "seed" in method.options:
        options = {"seed": seed, **options}
    method.require(intervention, options)
    settings = {**method.options, **options}
    require_graph(graph)
    require_task(task)
    adapter = Adapter.of(model)
    require_model(graph, adapter)
    task.check_fits(context=adapter.architecture.n_ctx, vocabulary=adapter.architecture.d_vocab)
    asked = Asked(kind.kind, 1 if spans is None else len(spans.names), keep, len(task))
    need = attribution_need(
        shape_of(adapter),
        graph,
        task.clean.shape[1],
        method.costs(graph, settings),
        asked,
        mean=intervention_name(intervention).startswith("mean"),
    )
    what = f"one prompt of {task.clean.shape[1]:,} tokens by {method.name}"
    cut = batching(adapter, need, len(task), memory=memory, batch_size=batch_size, what=what)
    check_model(adapter, task.clean)
    size, saes = cut.size, kind.place(adapter, graph)
    prepared = Intervention.prepare(
        adapter, task, intervention, batch_size=size, seed=seed, saes=saes
    )
    made = provenance_of(
        adapter,
        task,
        method=method.name,
        metric=metric_name(metric),
        intervention=intervention_name(intervention),
        seed=seed,
        options=settings,
    )
    return AttributionJob(
        kind, model, graph, task, metric, method, settings, prepared, cut, made, spans, keep
    )


def require_model(graph: TensorGraph, adapter: Adapter) -> None:
    """Refuse a graph that was made of a model of another shape."""
    if not graph.architecture.same_shape(adapter.architecture):
        raise GraphError(
            f"{graph!r} is not of this model ({adapter.architecture.model!r}): make it with "
            "TensorGraph.from_model(model)"
        )


def find_method(name: str | Method) -> Method:
    """A method by its name, or one's own."""
    if isinstance(name, Method):
        return name
    if name not in METHODS:
        raise unknown("method", name, METHODS, ELSEWHERE)
    return METHODS[name]
