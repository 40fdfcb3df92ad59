"""A circuit whose edges are in at some spans of the prompts only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from sae_circuits.errors import GraphError, unknown
from sae_circuits.graph.circuit import Circuit
from sae_circuits.graph.nodes import Node
from sae_circuits.graph.out import Drawn
from sae_circuits.graph.span_scores import Given, SpanScores
from sae_circuits.graph.splits import FeatureSource
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:
    from sae_circuits.graph.scores import Scores


@dataclass(frozen=True, eq=False)
class SpanCircuit(Drawn):
    """A circuit for each span of the prompts: which edges carry what they carry there.

        input(v)[t] = base(v)[t] + sum over edges (u -> v) in at the span of t of (now - replaced)

    It has the algebra of sets, over pairs of a span and an edge, and `evaluate`, `ablate` and
    `curve` take it as they take a circuit.

    Args:
        parts: circuits of one graph, by the names of the spans.
        spans: where the spans are, as `attribute_spans` takes it. Where some tokens are in none of
            them, `parts` has a circuit named "rest".
        scores: only carried along.

    Raises:
        GraphError: no part, parts of different graphs, or spans that have no part.

    >>> from sae_circuits.graph import Architecture
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> copies = Circuit.from_edges(graph, ["input->a0.h0<v>", "a0.h0->logits"])
    >>> reads = Circuit.from_edges(graph, ["input->a0.h0<v>"])
    >>> circuit = SpanCircuit({"end": copies, "rest": reads}, {"end": -1})
    >>> len(circuit), len(circuit.union), len(~circuit), len(circuit["rest"])
    (3, 2, 13, 1)
    """

    parts: Mapping[str, Circuit]
    spans: Given
    scores: SpanScores[Scores] | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            raise GraphError("a circuit by span needs a circuit for each span, and there is none")
        for part in self.parts.values():
            self.graph.require_same(part.graph, "the circuit of a span")
        named = () if isinstance(self.spans, str) else tuple(self.spans)
        if missing := [name for name in named if name not in self.parts]:
            raise unknown("span without a circuit", missing[0], self.parts)

    @classmethod
    def everywhere(cls, circuit: Circuit, like: SpanCircuit | SpanScores[Any]) -> SpanCircuit:
        """The same circuit at all spans of another circuit by span, or of scores by span."""
        return cls(dict.fromkeys(like.parts, circuit), like.spans)

    def __getitem__(self, span: str) -> Circuit:
        if span not in self.parts:
            raise unknown("span", span, self.parts)
        return self.parts[span]

    def __len__(self) -> int:
        """How many edges are in, each counted once for every span."""
        return sum(map(len, self.parts.values()))

    # -- what is in --------------------------------------------------------------------------

    @property
    def graph(self) -> TensorGraph:
        """The graph of all parts."""
        return next(iter(self.parts.values())).graph

    @cached_property
    def mask(self) -> Bool[Tensor, "span edge"]:
        """Which edges are in at each span."""
        return torch.stack([part.mask.cpu() for part in self.parts.values()])

    @property
    def union(self) -> Circuit:
        """The edges that are in at any span, with their scores summed over spans."""
        circuit = reduce(or_, self.parts.values())
        return replace(circuit, scores=None if self.scores is None else self.scores.total)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The parts of the model that some edge touches at some span."""
        return self.union.nodes

    @property
    def fraction(self) -> float:
        """The share of all pairs of span and edge that are in."""
        return len(self) / self.mask.numel()

    @property
    def weighted_edges(self) -> float:
        """How many pairs of a span and an edge of the unsplit graph it is worth."""
        return sum(part.weighted_edges for part in self.parts.values())

    def with_mask(self, mask: Bool[Tensor, "span edge"]) -> SpanCircuit:
        """The same spans with other edges in.

        Raises:
            GraphError: not one row for each span.
        """
        if len(mask) != len(self.parts):
            raise GraphError(f"{len(mask)} masks for the spans {', '.join(self.parts)}")
        rows = zip(self.parts.items(), mask, strict=True)
        return replace(self, parts={name: part.with_mask(row) for (name, part), row in rows})

    def with_errors(self) -> SpanCircuit:
        """The same circuit with every edge into and out of an error node, at all spans."""
        return self._each(Circuit.with_errors)

    def without_errors(self) -> SpanCircuit:
        """The same circuit with no edge into or out of an error node."""
        return self._each(Circuit.without_errors)

    def with_saes(self, saes: Sequence[FeatureSource]) -> SpanCircuit:
        """The same circuit in a graph with its dictionaries, which files do not hold."""
        graph = self.graph.with_saes(saes)
        return replace(self._each(lambda part: replace(part, graph=graph)), scores=None)

    # -- the algebra of sets -----------------------------------------------------------------

    def __and__(self, other: SpanCircuit) -> SpanCircuit:
        return self.with_mask(self.mask & self._mask_of(other))

    def __or__(self, other: SpanCircuit) -> SpanCircuit:
        return self.with_mask(self.mask | self._mask_of(other))

    def __sub__(self, other: SpanCircuit) -> SpanCircuit:
        return self.with_mask(self.mask & ~self._mask_of(other))

    def __invert__(self) -> SpanCircuit:
        return self.with_mask(~self.mask)

    def __le__(self, other: SpanCircuit) -> bool:
        return not bool((self.mask & ~self._mask_of(other)).any())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SpanCircuit)
            and list(self.parts) == list(other.parts)
            and self.graph.same_as(other.graph)
            and bool((self.mask == other.mask).all())
        )

    def __hash__(self) -> int:
        return hash((tuple(self.parts), self.mask.numpy().tobytes()))

    def _each(self, change: Callable[[Circuit], Circuit]) -> SpanCircuit:
        return replace(self, parts={name: change(part) for name, part in self.parts.items()})

    def _mask_of(self, other: SpanCircuit) -> Bool[Tensor, "span edge"]:
        self.graph.require_same(other.graph, "the other circuit")
        if list(other.parts) != list(self.parts):
            raise GraphError(
                f"the other circuit has the spans {', '.join(other.parts)}, this one "
                f"{', '.join(self.parts)}"
            )
        return other.mask

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(part):,}" for name, part in self.parts.items())
        return f"SpanCircuit({sizes} edges, {self.graph!r})"
