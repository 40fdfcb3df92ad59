"""Circuits beside circuits."""

from __future__ import annotations

from dataclasses import dataclass

from sae_circuits.evaluation.ranking import NAN, shared_by_chance
from sae_circuits.graph import Circuit
from sae_circuits.graph.given import require_circuit


@dataclass(frozen=True)
class SetOverlap:
    """How far two sets of edges or nodes are the same, beside random sets of those sizes.

    Args:
        n_first, n_second: how many each has.
        n_shared: how many both have.
        n_all: how many there are to draw from.
    """

    n_first: int
    n_second: int
    n_shared: int
    n_all: int

    @property
    def jaccard(self) -> float:
        """The share of both in either; NaN where both are empty."""
        return _ratio(self.n_shared, self.n_first + self.n_second - self.n_shared)

    @property
    def precision(self) -> float:
        """The share of the first that is in the second."""
        return _ratio(self.n_shared, self.n_first)

    @property
    def recall(self) -> float:
        """The share of the second that is in the first."""
        return _ratio(self.n_shared, self.n_second)

    @property
    def expected_jaccard(self) -> float:
        """What random sets of those sizes have in the mean: a sum over how many they share."""
        either = self.n_first + self.n_second
        chances = shared_by_chance(self.n_first, self.n_second, self.n_all)
        return sum(chance * _ratio(n, either - n) for n, chance in chances.items())

    @property
    def expected_precision(self) -> float:
        """What a random first set has in the mean."""
        return _ratio(self.n_second, self.n_all)

    @property
    def expected_recall(self) -> float:
        """What a random second set has in the mean."""
        return _ratio(self.n_first, self.n_all)

    def __repr__(self) -> str:
        return (
            f"SetOverlap({self.n_shared:,} shared of {self.n_first:,} and {self.n_second:,}: "
            f"Jaccard {self.jaccard:.3f}, by chance {self.expected_jaccard:.3f})"
        )


@dataclass(frozen=True)
class Overlap:
    """How far two circuits are the same, by edges and by nodes (heads, MLPs, features)."""

    edges: SetOverlap
    nodes: SetOverlap


def overlap(first: Circuit, second: Circuit) -> Overlap:
    """How far two circuits of one graph are the same, beside random ones of those sizes.

    Chance draws as many edges, or as many nodes, evenly from those of the graph.

    Raises:
        GraphError: circuits of different graphs; `circuit.on(graph)` brings one to the other's.

    Example:
        >>> from sae_circuits.graph import Architecture, TensorGraph
        >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
        >>> first = Circuit.from_edges(graph, ["input->m0", "m0->logits"])
        >>> overlap(first, Circuit.from_edges(graph, ["input->m0"])).edges
        SetOverlap(1 shared of 2 and 1: Jaccard 0.500, by chance 0.125)
    """
    require_circuit(first, "first")
    require_circuit(second, "second")
    ours, theirs = set(first.nodes), set(second.nodes)
    n_nodes = len(first.graph.nodes)
    return Overlap(
        SetOverlap(len(first), len(second), len(first & second), first.graph.n_edges),
        SetOverlap(len(ours), len(theirs), len(ours & theirs), n_nodes),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else NAN
