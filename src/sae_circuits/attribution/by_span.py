"""`attribute_spans`: scores by where in the prompts they come from."""

from __future__ import annotations

from typing import Any, Literal, overload

from sae_circuits.ablation.values import Intervening
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.nodes import NodeProblem
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.run import find_method, score_task
from sae_circuits.attribution.spans import Given, Spans
from sae_circuits.errors import OptionError
from sae_circuits.graph import NodeScores, Scores, SpanScores, TensorGraph
from sae_circuits.metrics import Metric, get, logit_diff
from sae_circuits.tasks import Task


@overload
def attribute_spans(
    model: Any, graph: TensorGraph, task: Task, spans: Given = ..., *, of: Literal["edges"] = ...,
    metric: str | Metric = ..., method: str | Method = ..., intervention: Intervening = ...,
    batch_size: int | None = ..., seed: int = ..., **options: Any,
) -> SpanScores[Scores]: ...  # fmt: skip
@overload
def attribute_spans(
    model: Any, graph: TensorGraph, task: Task, spans: Given = ..., *, of: Literal["nodes"],
    metric: str | Metric = ..., method: str | Method = ..., intervention: Intervening = ...,
    batch_size: int | None = ..., seed: int = ..., **options: Any,
) -> SpanScores[NodeScores]: ...  # fmt: skip
def attribute_spans(
    model: Any,
    graph: TensorGraph,
    task: Task,
    spans: Given = "position",
    *,
    of: Literal["edges", "nodes"] = "edges",
    metric: str | Metric = logit_diff,
    method: str | Method = "eap-ig",
    intervention: Intervening = "corrupt",
    batch_size: int | None = None,
    seed: int = 0,
    **options: Any,
) -> SpanScores[Any]:
    """Score every edge, or every writer, at each position or in each named span of the prompts.

    What a writer adds to the stream at a position is read there, so that a score is a sum over
    positions: the scores of all spans add up to those of `attribute` or `attribute_nodes`.

    Args:
        spans: "position", for spans "@0", "@1", ...; or spans by their names, each a position (-1
            is the last of each prompt), a range of positions, positions [n] (int64) or a mask
            [n, pos] (bool). Tokens that none of them covers are the span "rest".
        of: "edges", or "nodes" for the writers.
        model, graph, task, metric, method, intervention, batch_size, seed, options: as in
            `attribute`.

    Raises:
        TaskError: a span outside of a prompt, or two spans at one token.
        OptionError: a method whose scores are no sums over positions.
        GraphError, MetricError, NumericalError and others: as in `attribute`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> graph = sc.TensorGraph.from_model(model)
        >>> scores = sc.attribute_spans(model, graph, task, {"end": -1}, method="eap")
        >>> list(scores), len(scores["end"]) == graph.n_edges
        (['end', 'rest'], True)
    """
    chosen = find_method(method)
    if of not in ("edges", "nodes"):
        raise OptionError(f"of={of!r}: 'edges' or 'nodes'")
    for level in ("spans", of):
        chosen.require_level(level)
    kind = Problem if of == "edges" else NodeProblem
    labelled = Spans.of(task, spans)
    total, made = score_task(
        kind,
        model,
        graph,
        task,
        metric=get(metric),
        method=chosen,
        intervention=intervention,
        batch_size=batch_size,
        seed=seed,
        options=options,
        spans=labelled,
    )
    if of == "nodes":
        found = [NodeScores(graph, part[:, 0], made) for part in total]
    else:
        found = [Scores(graph, graph.flat(part), made) for part in total]
    return SpanScores(dict(zip(labelled.names, found, strict=True)))
