"""Pruning by score alone: a threshold, a number, a share, or the best components.

All take `by`: "abs" ranks by size, "help" puts first the edges whose corruption lowers the metric
most, "hurt" those whose corruption raises it most. Ties go to the lower edge id, so that circuits
of growing size are nested.
"""

from __future__ import annotations

from typing import overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.errors import GraphError, in_words
from sae_circuits.graph import Circuit, Scores, SpanCircuit, SpanScores
from sae_circuits.graph.given import require_scores
from sae_circuits.prune.keys import check_count, ranked, sizes


@overload
def threshold(scores: Scores, value: float, *, by: str = ...) -> Circuit: ...
@overload
def threshold(scores: SpanScores[Scores], value: float, *, by: str = ...) -> SpanCircuit: ...
def threshold(
    scores: Scores | SpanScores[Scores], value: float, *, by: str = "abs"
) -> Circuit | SpanCircuit:
    """Keep the edges that count at least `value`; of scores by span, at the spans where they do.

    Args:
        scores: what `attribute` gives.
        value: in the metric's own unit. Compared with `|score|` by "abs", `-score` by "help" and
            `score` by "hurt".
        by: which edges count: "abs", "help" or "hurt" (see above).

    Raises:
        GraphError: another `by`, or a value that is no number.
        NumericalError: a score is not a number.

    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> scores = Scores(graph, torch.tensor([0.1, -3.0, 0.0, 2.0, -0.5, 0.0, 1.0, 0.2]))
    >>> len(threshold(scores, 1.0)), len(threshold(scores, 1.0, by="help"))
    (3, 1)
    """
    if not isinstance(value, (int, float, torch.Tensor)):
        raise GraphError(f"a threshold of {in_words(value)}: give a number in the metric's unit")
    if isinstance(scores, SpanScores):
        return _at_spans(scores, _span_sizes(scores, by) >= value)
    return Circuit(scores.graph, sizes(scores, by) >= value, scores)


@overload
def top_n(scores: Scores, n: int, *, by: str = ...) -> Circuit: ...
@overload
def top_n(scores: SpanScores[Scores], n: int, *, by: str = ...) -> SpanCircuit: ...
def top_n(scores: Scores | SpanScores[Scores], n: int, *, by: str = "abs") -> Circuit | SpanCircuit:
    """Keep exactly the n first edges; of scores by span, the n first pairs of a span and an edge.

    Args:
        scores: what `attribute` gives.
        n: how many edges to keep, such as `len(scores) // 10`.
        by: which come first: "abs", those that count most; "help", those whose corruption lowers
            the metric most; or "hurt", those whose corruption raises it most.

    Raises:
        GraphError: n is below zero or above the graph's number of edges.

    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> scores = Scores(graph, torch.tensor([0.1, -3.0, 0.0, 2.0, -0.5, 0.0, 1.0, 0.2]))
    >>> [edge.name for edge in top_n(scores, 2).edges]
    ['input->a0.h0<k>', 'input->m0']
    """
    require_scores(scores)
    if isinstance(scores, SpanScores):
        key = _span_sizes(scores, by)
        check_count(n, key.numel(), "pairs of a span and an edge", repr(scores.graph))
        return _at_spans(scores, _largest(key.flatten(), n).view(key.shape))
    check_count(n, scores.graph.n_edges, "edges", repr(scores.graph))
    return _first(scores, n, sizes(scores, by))


def cumulative_influence(scores: Scores, share: float, *, by: str = "abs") -> Circuit:
    """Keep the fewest edges that together hold a share of all edges' influence.

    smallest k with  sum_{i <= k} w_i >= share * sum_i w_i,  w = max(key, 0) in descending order

    An edge's score already is its effect on the metric along every path below it, so influence is
    the score itself; no powers of the graph are summed, as they are for direct effects.

    Args:
        scores: what `attribute` gives.
        share: between 0, which keeps nothing, and 1, which drops what has no influence. By "help"
            and by "hurt" only edges of that sign have any.
        by: which edges have influence: "abs", "help" or "hurt".

    Raises:
        GraphError: a share outside 0 to 1.

    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> scores = Scores(graph, torch.tensor([0.0, -6.0, 0.0, 2.0, -1.0, 0.0, 1.0, 0.0]))
    >>> [len(cumulative_influence(scores, share)) for share in (0, 0.6, 0.61, 0.9, 1)]
    [0, 1, 2, 3, 4]
    """
    if not 0 <= share <= 1:
        raise GraphError(f"a share of {share!r} of the influence: give a number from 0 to 1")
    key = sizes(scores, by)
    held = key.clamp(min=0).double().sort(descending=True).values.cumsum(0)
    # What is added last of many tiny weights may not move the sum: compare with its own end.
    n = int((held < share * held[-1]).sum()) + 1 if len(held) and share * held[-1] > 0 else 0
    return _first(scores, n, key)


def top_nodes(scores: Scores, n: int, *, by: str = "abs") -> Circuit:
    """Keep every edge between the input, the n first heads, MLPs and features, and the logits.

    A component counts by its node attribution, the sum of its edges' scores: the estimated change
    of the metric when all that it writes is corrupted. A shared key/value head is kept with any
    query head of its group.

    Args:
        scores: what `attribute` gives.
        n: how many heads, MLPs and features to keep.
        by: which come first: "abs", "help" or "hurt".

    Raises:
        GraphError: n is below zero or above the number of writers beside the input.

    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> scores = Scores(graph, torch.tensor([0.1, -3.0, 0.0, 2.0, -0.5, 0.0, 1.0, 0.2]))
    >>> [edge.name for edge in top_nodes(scores, 1).edges][-2:]
    ['input->logits', 'a0.h0->logits']
    """
    require_scores(scores)
    graph = scores.graph
    writers = [i for i, node in enumerate(graph.src_nodes) if node.kind != "input"]
    check_count(n, len(writers), "writers", repr(graph))
    attribution = graph.dense(sizes(scores, "hurt")).sum(1)[writers]
    order = ranked(attribution, by).sort(descending=True, stable=True).indices
    kept = [graph.src_nodes[writers[i]] for i in order[:n].tolist()]
    circuit = Circuit.from_nodes(graph, kept, scores)
    return circuit.with_mask(circuit.mask.to(scores.values.device))


def _first(scores: Scores, n: int, key: Float[Tensor, "edge"]) -> Circuit:
    return Circuit(scores.graph, _largest(key, n), scores)


def _largest(key: Float[Tensor, "item"], n: int) -> Bool[Tensor, "item"]:
    mask = torch.zeros(len(key), dtype=torch.bool, device=key.device)
    mask[key.sort(descending=True, stable=True).indices[:n]] = True
    return mask


def _span_sizes(scores: SpanScores[Scores], by: str) -> Float[Tensor, "span edge"]:
    return torch.stack([sizes(part, by) for part in scores.values()])


def _at_spans(scores: SpanScores[Scores], mask: Bool[Tensor, "span edge"]) -> SpanCircuit:
    rows = zip(scores.items(), mask, strict=True)
    parts = {name: Circuit(part.graph, own, part) for (name, part), own in rows}
    return SpanCircuit(parts, scores.spans, scores)
