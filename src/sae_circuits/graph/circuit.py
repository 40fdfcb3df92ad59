"""A circuit: a graph and which of its edges are in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from sae_circuits.errors import ArgumentError, GraphError, require
from sae_circuits.graph.edges import Edges
from sae_circuits.graph.nodes import Edge, Node
from sae_circuits.graph.out import Drawn
from sae_circuits.graph.scores import Scores
from sae_circuits.graph.splits import FeatureSource
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:
    from sae_circuits.graph.networks import Network


@dataclass(frozen=True, eq=False)
class Circuit(Drawn):
    """A set of edges of a graph, with the algebra of sets.

    `scores`, where known, are only carried along, for drawing and for the record.

    >>> from sae_circuits.graph import Architecture
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> a = Circuit.from_edges(graph, ["input->m0", "m0->logits"])
    >>> b = Circuit.from_edges(graph, ["input->m0", "input->logits"])
    >>> [edge.name for edge in (a & b).edges], len(a | b), len(~a), (a & b) <= a
    (['input->m0'], 3, 6, True)
    """

    graph: TensorGraph
    mask: Bool[Tensor, "edge"]
    scores: Scores | None = None

    def __post_init__(self) -> None:
        if self.mask.shape != (self.graph.n_edges,):
            raise GraphError(f"a mask of {tuple(self.mask.shape)} does not fit {self.graph!r}")
        if self.scores is not None:
            self.graph.require_same(self.scores.graph, "the scores")

    @classmethod
    def from_edges(
        cls,
        graph: TensorGraph,
        edges: Iterable[Edge | str],
        scores: Scores | None = None,
    ) -> Circuit:
        """The circuit of the given edges, by value or by name.

        Raises:
            GraphError: an edge that the graph does not have.
            ArgumentError: no graph, or one edge where several are wanted.
        """
        require("graph", graph, TensorGraph, "a TensorGraph, made by TensorGraph.from_model(model)")
        if isinstance(edges, str | Edge):
            raise ArgumentError(f"edges is one edge, {str(edges)!r}: give a list of edges")
        mask = torch.zeros(graph.n_edges, dtype=torch.bool)
        mask[[graph.edge_id(edge) for edge in edges]] = True
        return cls(graph, mask, scores)

    @classmethod
    def from_nodes(
        cls, graph: TensorGraph, nodes: Iterable[Node | str], scores: Scores | None = None
    ) -> Circuit:
        """All edges between the input, some nodes and the logits.

        Args:
            nodes: writers by value or by name, such as `a9.h6`, `m3`, `m3.f17` or `post0.error`.

        Raises:
            GraphError: a node that does not write in the graph.
        """
        from_kept = torch.zeros(graph.n_src, dtype=torch.bool)
        to_kept = torch.zeros(graph.n_dest, dtype=torch.bool)
        for node in ("input", *nodes):
            src = graph.src_id(node)
            from_kept[src] = True
            to_kept[list(graph.readers_of[src])] = True
        to_kept[-len(graph.readers[-1]) :] = True  # the logits
        return cls(graph, graph.flat(from_kept[:, None] & to_kept), scores)

    @classmethod
    def full(cls, graph: TensorGraph) -> Circuit:
        """All edges of a graph."""
        return cls(graph, torch.ones(graph.n_edges, dtype=torch.bool))

    @classmethod
    def empty(cls, graph: TensorGraph) -> Circuit:
        """No edge of a graph."""
        return cls(graph, torch.zeros(graph.n_edges, dtype=torch.bool))

    def with_mask(self, mask: Bool[Tensor, "edge"]) -> Circuit:
        """The same graph and scores with other edges in."""
        return replace(self, mask=mask)

    def with_errors(self) -> Circuit:
        """The same circuit with every edge into and out of an error node."""
        return self.with_mask(self.mask | self.graph.error_edges.to(self.mask.device))

    def without_errors(self) -> Circuit:
        """The same circuit with no edge into or out of an error node."""
        return self.with_mask(self.mask & ~self.graph.error_edges.to(self.mask.device))

    @property
    def edges(self) -> Edges:
        """The edges that are in, in the order of their ids."""
        return Edges(self.graph, self.mask.nonzero()[:, 0].cpu())

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The components that an edge of the circuit joins, along the forward pass."""
        present = self.graph.dense(self.mask.cpu(), fill=False)
        writes, reads = present.any(1), present.any(0)
        seen = {n.component for n, on in zip(self.graph.src_nodes, writes, strict=True) if on}
        seen |= {n.component for n, on in zip(self.graph.dest_nodes, reads, strict=True) if on}
        return tuple(node for node in self.graph.nodes if node in seen)

    @property
    def fraction(self) -> float:
        """The share of the graph's edges that are in."""
        return len(self) / self.graph.n_edges

    @cached_property
    def weighted_edges(self) -> float:
        """How many edges of the unsplit graph the circuit is worth: see docs/measures.md.

        An edge from a component of which some parts only are in counts as that share; without
        dictionaries this is the number of edges.
        """
        from sae_circuits.graph.weights import weight_of

        return weight_of(self.graph, self.mask)

    def __len__(self) -> int:
        return int(self.mask.sum())

    def __contains__(self, edge: object) -> bool:
        return edge in self.edges

    def __and__(self, other: Circuit) -> Circuit:
        return self.with_mask(self.mask & self._mask_of(other))

    def __or__(self, other: Circuit) -> Circuit:
        return self.with_mask(self.mask | self._mask_of(other))

    def __sub__(self, other: Circuit) -> Circuit:
        return self.with_mask(self.mask & ~self._mask_of(other))

    def __invert__(self) -> Circuit:
        return self.with_mask(~self.mask)

    def __le__(self, other: Circuit) -> bool:
        return not bool((self.mask & ~self._mask_of(other)).any())

    def __lt__(self, other: Circuit) -> bool:
        return self <= other and len(self) < len(other)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Circuit)
            and self.graph.same_as(other.graph)
            and bool((self.mask == other.mask).all())
        )

    def __hash__(self) -> int:
        return hash((self.graph.readers, self.mask.cpu().numpy().tobytes()))

    def on(self, graph: TensorGraph) -> Circuit:
        """The same edges in another graph, such as the one that this graph is a part of.

        Raises:
            GraphError: an edge that the other graph does not have.
        """
        return Circuit.from_edges(graph, self.edges)

    def with_saes(self, saes: Sequence[FeatureSource]) -> Circuit:
        """The same circuit in a graph with its dictionaries, which files do not hold.

        Raises:
            GraphError: other dictionaries than the graph was made with.
        """
        scores = None if self.scores is None else self.scores.with_saes(saes)
        graph = self.graph.with_saes(saes) if scores is None else scores.graph
        return replace(self, graph=graph, scores=scores)

    def _mask_of(self, other: Circuit) -> Bool[Tensor, "edge"]:
        require("the other circuit", other, Circuit, "a Circuit")
        self.graph.require_same(other.graph, "the other circuit")
        return other.mask.to(self.mask.device)

    def to_networkx(self) -> Network:
        """Export as a networkx graph of components; edges carry port and score."""
        from sae_circuits.graph.networks import to_networkx

        return to_networkx(self.edges, self.scores)

    def __repr__(self) -> str:
        return f"Circuit({len(self):,} of {self.graph.n_edges:,} edges, {self.graph!r})"
