"""`attribute_pairs`: scores of all edges between features that are active together.

The batches leave behind what features have at each token, but for zeros: how a source changes, and
the gradient at a destination. Then come the products, two dictionaries at a time, over the tokens
of the whole task (see `pair_kernel.py`): so a sum is complete before the weaker edges are left out,
and does not depend on how the task was batched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.method import Method, Rule
from sae_circuits.attribution.pair_kernel import Destination, Source, score_pairs
from sae_circuits.attribution.pair_problem import Ends, PairProblem, joined
from sae_circuits.attribution.pairs_job import PairsJob
from sae_circuits.attribution.run import find_method, prepare
from sae_circuits.errors import GraphError, NumericalError, OptionError
from sae_circuits.graph import Edges, PairScores, TensorGraph
from sae_circuits.graph.pair_scores import strongest
from sae_circuits.metrics import Metric, get, logit_diff
from sae_circuits.models.adapter import Adapter
from sae_circuits.precision import wide_dtype
from sae_circuits.progress import track
from sae_circuits.shards import Means, Workers
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task

Kept = tuple[Int64[Tensor, "_"], Float[Tensor, "_"]]  # edges' ids and scores
SPARSE = ("corrupt", "resample", "zero")  # interventions that leave inactive features as they are


def attribute_pairs(
    model: Any,
    graph: TensorGraph,
    task: Task,
    *,
    metric: str | Metric = logit_diff,
    method: str | Method = "eap",
    intervention: str = "corrupt",
    at_least: float = 0.0,
    keep: int | None = None,
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    folder: str | Path | None = None,
    **options: Any,
) -> PairScores:
    """Score every edge between two features of a graph, however many features there are.

    The scores are those of `attribute` on the same graph. An edge's score is 0 unless, at some
    token, its source is active in either run and its destination at the gradient's; only such
    edges are computed, so that the graph need not be restricted first. Destinations are features
    that read the stream: those of SAEs on it, and of transcoders.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        graph: with whole dictionaries, or with some of their features.
        task, metric, batch_size, seed: as in `attribute`.
        memory: as in `attribute`; beside it stand what is active on the task, and the result.
        method: "eap", "eap-ig", "clean-corrupted", or one of one's own made by `along_embedding`.
        intervention: "corrupt", "resample" or "zero".
        at_least: leave out edges whose score is smaller by size, in the metric's unit.
        keep: leave out all but so many edges, the strongest; memory is then bounded.
        workers, folder: as in `attribute`, of the model's runs; the products of pairs are made
            here, when all that is active is there.
        options: of the method, such as `steps=5`.

    Raises:
        GraphError: no edge joins two features here; or the graph is of another model.
        OptionError: a method that is not a rule over gradients along the embedding; another
            intervention; `keep` below 1 or `at_least` below 0.
        MetricError, NumericalError and others: as in `attribute`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> saes = sc.load_saes("demo", ["resid_post.0", "resid_post.1"])
        >>> graph = sc.TensorGraph.from_model(model, saes=saes)
        >>> pairs = sc.attribute_pairs(model, graph, task)
        >>> 0 < len(pairs) < graph.n_edges / 5
        True
        >>> small = graph.restrict(pairs.features(100))
    """
    chosen = find_method(method)
    _require(graph, chosen, intervention, at_least, keep)
    job = prepare(
        PairProblem,
        model,
        graph,
        task,
        metric=get(metric),
        method=chosen,
        intervention=intervention,
        batch_size=batch_size,
        memory=memory,
        seed=seed,
        options=options,
    )
    ends = PairsJob.of(job).ends(Means(workers, folder))
    dtype = wide_dtype(Adapter.of(model).dtype)
    ids, values = score_ends(graph, ends, 1 / len(task), dtype, at_least, keep)
    _require_finite(graph, ids, values)
    left_out = {name: x for name, x in (("at_least", at_least), ("keep", keep)) if x}
    made = replace(job.made, options={**job.made.options, **left_out})
    return PairScores(graph, ids, values, made, not left_out)


def _require(
    graph: TensorGraph, method: Method, intervention: str, at_least: float, keep: int | None
) -> None:
    """Refuse what has no scores of pairs, before anything runs."""
    if not isinstance(method.score_batch, Rule):
        raise OptionError(
            f"method {method.name!r} is not a rule over gradients along the embedding, such as "
            "'eap' or 'eap-ig': restrict the graph, and score its edges by attribute(...)"
        )
    if intervention not in SPARSE and intervention in method.interventions:
        raise OptionError(
            f"under {intervention!r} every feature changes at every token, so that nearly all "
            f"edges count: give one of {', '.join(SPARSE)}, or restrict the graph and use "
            "attribute(...)"
        )
    if keep is not None and keep < 1:
        raise OptionError(f"keep={keep}: keep at least one edge, or None for all")
    if not at_least >= 0:
        raise OptionError(f"at_least={at_least}: a size, which is not below 0")
    if graph.through or any(
        split.reads_stream and getattr(split.dictionary, "scaling", None) is not None
        for split in graph.splits.values()
    ):
        raise OptionError(
            "features that read through heads or an MLP, or whose dictionary normalises its input, "
            "have no closed form: restrict the graph and use attribute(...)"
        )
    if not any(True for _ in joined(graph)):
        raise GraphError(
            f"{graph!r} has no edge between two features: features are read by those of SAEs on "
            "the stream and of transcoders that come later; give such dictionaries, by "
            "TensorGraph.from_model(model, saes=[...])"
        )


def score_ends(
    graph: TensorGraph,
    ends: Ends,
    weight: float,
    dtype: torch.dtype,
    at_least: float = 0.0,
    keep: int | None = None,
) -> Kept:
    """The ids and the scores of all edges between features, the ids ascending.

    Args:
        weight: of a sum over the task.
    """
    blocks, found, held = list(joined(graph)), list[Kept](), 0
    for (src, writer), (dest, reader) in track(blocks, description="pairs of features"):
        out, into = (f"{block.site}{block.layer}" for block in (writer, reader))
        source = Source(src, ends.saes[out], ends.change[out])
        to = Destination(dest, ends.saes[into], ends.gradient[into], ends.normed[into])
        first = graph.sees(reader.depth)[0]
        for u, v, sums in score_pairs(source, to):
            values = (weight * sums).to(dtype).cpu()
            kept = (values != 0) & ~(values.abs() < at_least)  # NaN stays, and is found
            ids = graph.offsets[v.cpu()] + (u.cpu() - first)
            found.append((ids, values) if bool(kept.all()) else (ids[kept], values[kept]))
            held += len(found[-1][0])
            if keep is not None and held > 2 * keep:
                found = [_strongest(_ascending(found), keep)]
                held = keep
    merged = _ascending(found) if found else (torch.empty(0, dtype=torch.int64), torch.empty(0))
    return merged if keep is None else _strongest(merged, keep)


def _ascending(parts: list[Kept]) -> Kept:
    """Several runs of edges as one, by id."""
    ids, values = (torch.cat(list(some)) for some in zip(*parts, strict=True))
    if bool((ids[1:] > ids[:-1]).all()):
        return ids, values
    ids, order = ids.sort()
    return ids, values[order]


def _strongest(edges: Kept, n: int) -> Kept:
    places = strongest(edges[1].abs(), n)
    return edges[0][places], edges[1][places]


def _require_finite(graph: TensorGraph, ids: Int64[Tensor, "edge"], values: Tensor) -> None:
    if bool(values.isfinite().all()):
        return
    bad = Edges(graph, ids[~values.isfinite()][:1])[0]
    raise NumericalError(
        f"the score of {bad.name} is not finite: check the dictionaries' weights, the metric and "
        "the model's dtype"
    )
