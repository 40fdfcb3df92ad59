"""`attribute_spans`: scores by where in the prompts they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.ablation.values import Intervening
from sae_circuits.attribution.across import AcrossProblem, require_room
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.nodes import NodeProblem
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.run import find_method, score_task
from sae_circuits.errors import OptionError
from sae_circuits.graph import (
    Given,
    NodeScores,
    Scores,
    SpanPairScores,
    SpanScores,
    TensorGraph,
)
from sae_circuits.metrics import Metric, get, logit_diff
from sae_circuits.shards import Means, Workers
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task
from sae_circuits.tasks.spans import Spans


@overload
def attribute_spans(
    model: Any, graph: TensorGraph, task: Task, spans: Given = ..., *, of: Literal["edges"] = ...,
    across: Literal[False] = ...,
    metric: str | Metric = ..., method: str | Method = ..., intervention: Intervening = ...,
    batch_size: int | None = ..., memory: Memory | None = ..., seed: int = ...,
    workers: Workers | None = ..., folder: str | Path | None = ..., **options: Any,
) -> SpanScores[Scores]: ...  # fmt: skip
@overload
def attribute_spans(
    model: Any, graph: TensorGraph, task: Task, spans: Given = ..., *, of: Literal["edges"] = ...,
    across: Literal[True],
    metric: str | Metric = ..., method: str | Method = ..., intervention: Intervening = ...,
    batch_size: int | None = ..., memory: Memory | None = ..., seed: int = ...,
    workers: Workers | None = ..., folder: str | Path | None = ..., **options: Any,
) -> SpanPairScores: ...  # fmt: skip
@overload
def attribute_spans(
    model: Any, graph: TensorGraph, task: Task, spans: Given = ..., *, of: Literal["nodes"],
    across: Literal[False] = ...,
    metric: str | Metric = ..., method: str | Method = ..., intervention: Intervening = ...,
    batch_size: int | None = ..., memory: Memory | None = ..., seed: int = ...,
    workers: Workers | None = ..., folder: str | Path | None = ..., **options: Any,
) -> SpanScores[NodeScores]: ...  # fmt: skip
def attribute_spans(
    model: Any,
    graph: TensorGraph,
    task: Task,
    spans: Given = "position",
    *,
    of: Literal["edges", "nodes"] = "edges",
    across: bool = False,
    metric: str | Metric = logit_diff,
    method: str | Method = "eap-ig",
    intervention: Intervening = "corrupt",
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    folder: str | Path | None = None,
    **options: Any,
) -> SpanScores[Any] | SpanPairScores:
    """Score every edge, or every writer, at each position or in each named span of the prompts.

    What a writer adds to the stream at a position is read there, so that a score is a sum over
    positions: the scores of all spans add up to those of `attribute` or `attribute_nodes`.

    Args:
        spans: "position", for spans "@0", "@1", ...; or spans by their names, each a position (-1
            is the last of each prompt) or a range of positions; or, where prompts differ, int64
            positions [n] or starts and ends [n, 2], or a mask [n, pos]. A pair of these says where
            a span is in the clean and in the corrupt prompts, and is refused unless they are the
            same tokens. Tokens that no span covers are the span "rest".
        of: "edges", or "nodes" for the writers.
        across: give the scores from each span to each: an edge into a head's key or value goes from
            where its writer writes to where the head does (see `SpanPairScores`).
        model, graph, task, metric, method, intervention, batch_size, memory, seed, workers, folder,
            options: as in `attribute`.

    Raises:
        TaskError: a span outside of a prompt, two spans at one token, or a span that is elsewhere
            in the corrupt prompt than in the clean one.
        OptionError: a method whose scores are no sums over positions; `across` of nodes, of
            features that read through heads, or of so many spans that it would need gigabytes.
        GraphError, MetricError, NumericalError and others: as in `attribute`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> graph = sc.TensorGraph.from_model(model)
        >>> scores = sc.attribute_spans(model, graph, task, {"end": -1}, method="eap")
        >>> list(scores), len(scores["end"]) == graph.n_edges
        (['end', 'rest'], True)
        >>> pairs = sc.attribute_spans(model, graph, task, {"end": -1}, across=True, method="eap")
        >>> float(pairs["end", "rest"].values.abs().max())  # attention does not look ahead
        0.0

    Reference: Haklay et al. 2025, arXiv 2502.04577.
    """
    chosen = find_method(method)
    if of not in ("edges", "nodes"):
        raise OptionError(f"of={of!r}: 'edges' or 'nodes'")
    for level in ("spans", of):
        chosen.require_level(level)
    if across and of == "nodes":
        raise OptionError("a writer has one position: of='nodes' has no scores across spans")
    if across:  # as for nodes, a method has to take what its batch gives for gradients
        chosen.require_level("nodes")
    kind = AcrossProblem if across else Problem if of == "edges" else NodeProblem
    labelled = Spans.of(task, spans)
    if across:
        require_room(graph, labelled)
    total, made = score_task(
        kind,
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
        spans=labelled,
        means=Means(workers, folder),
    )
    if across:
        values = total.flatten(2)[..., _ids(graph)]
        return SpanPairScores(graph, labelled.names, values, spans, made)
    if of == "nodes":
        found = [NodeScores(graph, part[:, 0], made) for part in total]
    else:
        found = [Scores(graph, graph.flat(part), made) for part in total]
    return SpanScores(dict(zip(labelled.names, found, strict=True)), spans)


def _ids(graph: TensorGraph) -> Int64[Tensor, "edge"]:
    """Where in a flat [src, dest] matrix each edge is."""
    places = torch.arange(graph.n_src * graph.n_dest)
    return graph.flat(places.view(graph.n_src, graph.n_dest))
