"""Best-first growth: a circuit that is connected to the logits at every size."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.prune.keys import check_count, sizes


def best_first(scores: Scores, n: int, *, by: str = "abs") -> Circuit:
    """Grow n edges from the logits: each step adds the best edge into what is already reached.

    A component is reached when one of the edges that it writes is in; then all its inputs are open
    (a head's query, key and value, or those that it shares). Every edge of the result lies on a
    path to the logits, and circuits of growing size are nested.

    Raises:
        GraphError: n is below zero, above the graph's number of edges, or above what is connected
            to the logits.

    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> scores = Scores(graph, torch.tensor([0.1, -3.0, 0.0, 2.0, -0.5, 0.0, 1.0, 0.2]))
    >>> [edge.name for edge in best_first(scores, 2).edges]
    ['input->a0.h0<k>', 'a0.h0->logits']

    Reference: Hanna et al. 2024, arXiv 2403.17806 (their greedy search).
    """
    graph = scores.graph
    check_count(n, graph.n_edges, "edges", repr(graph))
    taken = list(islice(_growth(graph, sizes(scores, by).detach().cpu()), n))
    if len(taken) < n:
        raise GraphError(
            f"{n:,} edges asked for, growth from the logits reaches {len(taken):,}: {graph!r}"
        )
    mask = torch.zeros(graph.n_edges, dtype=torch.bool)
    mask[taken] = True
    return Circuit(graph, mask.to(scores.values.device), scores)


def _growth(graph: TensorGraph, key: Float[Tensor, "edge"]) -> Iterator[int]:
    """Edge ids in the order of greedy growth.

    A heap holds the best edge left of each open reader, as `(-key, edge id, reader, rank)`: ties go
    to the lower edge id. A reader's edges are sorted when it opens.
    """
    offsets, first_seen = graph.offsets.tolist(), graph.seen[:, 0].tolist()
    opened: dict[int, tuple[list[float], list[int]]] = {}
    heap: list[tuple[float, int, int, int]] = []
    to_open: Sequence[int] = [i for i, node in enumerate(graph.dest_nodes) if node.kind == "logits"]
    while True:
        for dest in to_open:
            if dest not in opened:
                own = key[offsets[dest] : offsets[dest + 1]].sort(descending=True, stable=True)
                opened[dest] = ((-own.values).tolist(), (own.indices + offsets[dest]).tolist())
                if opened[dest][1]:
                    heapq.heappush(heap, (opened[dest][0][0], opened[dest][1][0], dest, 0))
        if not heap:
            return
        _, edge, dest, rank = heap[0]
        yield edge
        keys, edges = opened[dest]
        if rank + 1 < len(edges):
            heapq.heapreplace(heap, (keys[rank + 1], edges[rank + 1], dest, rank + 1))
        else:
            heapq.heappop(heap)
        to_open = graph.readers_of[edge - offsets[dest] + first_seen[dest]]
