"""Best-first growth: a circuit that is connected to the logits at every size."""

from __future__ import annotations

import heapq

import torch

from sae_circuits.errors import GraphError
from sae_circuits.graph import Circuit, Scores
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
    key = sizes(scores, by).detach().cpu()
    front = _Front(key.double(), graph.offsets.tolist())
    for dest, node in enumerate(graph.dest_nodes):
        if node.kind == "logits":
            front.open(dest)
    taken: list[int] = []
    while len(taken) < n:
        best = front.pop()
        if best is None:
            raise GraphError(
                f"{n:,} edges asked for, growth from the logits reaches {len(taken):,}: {graph!r}"
            )
        edge, src = best
        taken.append(edge)
        for dest in graph.readers_of[src]:
            front.open(dest)
    mask = torch.zeros(graph.n_edges, dtype=torch.bool)
    mask[taken] = True
    return Circuit(graph, mask.to(scores.values.device), scores)


class _Front:
    """The open readers' best edges that are not taken yet, as a heap of one edge per reader.

    Each reader's edges are sorted once, when it opens, and enter the heap one at a time; an entry
    is `(-key, edge id, reader, rank)`, so that ties go to the lower edge id.
    """

    def __init__(self, key: torch.Tensor, offsets: list[int]) -> None:
        self.key, self.offsets = key, offsets
        self.heap: list[tuple[float, int, int, int]] = []
        self.sorted: dict[int, tuple[list[float], list[int]]] = {}

    def open(self, dest: int) -> None:
        """Let a reader's edges be taken."""
        if dest in self.sorted:
            return
        own = self.key[self.offsets[dest] : self.offsets[dest + 1]]
        values, order = own.sort(descending=True, stable=True)
        self.sorted[dest] = values.tolist(), order.tolist()
        self._push(dest, 0)

    def pop(self) -> tuple[int, int] | None:
        """Take the best edge: its id and its writer; None when there is none left."""
        if not self.heap:
            return None
        _, edge, dest, rank = heapq.heappop(self.heap)
        self._push(dest, rank + 1)
        return edge, edge - self.offsets[dest]

    def _push(self, dest: int, rank: int) -> None:
        values, order = self.sorted[dest]
        if rank < len(order):
            edge = self.offsets[dest] + order[rank]
            heapq.heappush(self.heap, (-values[rank], edge, dest, rank))
