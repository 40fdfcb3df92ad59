"""Scores by where in the prompt they come from, and where they go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import GraphError, unknown
from sae_circuits.graph.scores import NodeScores, Provenance, Scores
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:
    import pandas

Where = int | range | Tensor | tuple["int | range | Tensor", "int | range | Tensor"]
"""A position of each prompt, -1 for its last; a range of them; int64 positions [n], or starts and
ends (exclusive) [n, 2]; a mask [n, pos]. Or two of these, in the clean and in the corrupt prompts,
which have to be the same tokens."""

Given = str | Mapping[str, Where]
"""Where spans are: "position" for each position by itself, or by the names of the spans."""

S = TypeVar("S", Scores, NodeScores)


@dataclass(frozen=True, eq=False)
class SpanScores(Mapping[str, S], Generic[S]):
    """The part that each span of the prompts has in the scores, by the names of the spans.

    An edge joins a writer and a reader at the same position of the stream, so that its score is a
    sum over positions; the parts add up to the score without spans, which is `total`. `spans` says
    where the spans are.

    >>> import torch
    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> parts = [NodeScores(graph, torch.tensor(x)) for x in ([0.5, -2.0, 1.0], [0.5, 0.0, 3.0])]
    >>> spans = SpanScores({"name": parts[0], "verb": parts[1]}, {"name": 1, "verb": range(2, 4)})
    >>> spans["verb"]["m0"], spans.total["m0"], spans.top(2)
    (3.0, 4.0, [('verb', 'm0', 3.0), ('name', 'a0.h0', -2.0)])
    """

    parts: Mapping[str, S]
    spans: Given

    def __getitem__(self, span: str) -> S:
        if span not in self.parts:
            raise unknown("span", span, self.parts)
        return self.parts[span]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def graph(self) -> TensorGraph:
        """Whose edges or writers are scored."""
        return next(iter(self.parts.values())).graph

    @property
    def provenance(self) -> Provenance:
        """How the scores were made."""
        return next(iter(self.parts.values())).provenance

    @property
    def stacked(self) -> Float[Tensor, "span item"]:
        """The scores of all spans."""
        return torch.stack([part.values for part in self.parts.values()])

    def with_values(self, values: Float[Tensor, "span item"]) -> SpanScores[S]:
        """The same spans and graph with other scores."""
        rows = zip(self.parts.items(), values, strict=True)
        return replace(self, parts={name: replace(part, values=row) for (name, part), row in rows})

    @property
    def total(self) -> S:
        """The scores summed over all spans."""
        first, *others = self.parts.values()
        return replace(first, values=sum((x.values for x in others), start=first.values))

    def top(self, n: int) -> list[tuple[str, str, float]]:
        """Span, name and score of the n largest by size."""
        each = [(span, *row) for span, scores in self.parts.items() for row in scores.top(n)]
        return sorted(each, key=lambda row: -abs(row[2]))[:n]

    def to_pandas(self) -> pandas.DataFrame:
        """The tables of all spans in one, with a first column `span`."""
        from sae_circuits.graph.tables import spans_table

        return spans_table(self.parts)

    def __repr__(self) -> str:
        first = next(iter(self.parts.values()))
        return f"SpanScores({', '.join(map(repr, self.parts))}: {first!r} each)"


@dataclass(frozen=True, eq=False)
class SpanPairScores:
    """The scores of edges from each span of the prompts to each, by the names of the two.

    An edge into a key or a value carries what its writer adds in the first span, and what the head
    makes of it stands in the second. All other edges stay in their span: between two they score 0.

    Args:
        graph: whose edges are scored.
        names: of the spans.
        values: one score for each two spans and each edge.
        spans: where the spans are.

    Raises:
        GraphError: values of another shape.

    >>> import torch
    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> values = torch.zeros(2, 2, graph.n_edges)
    >>> values[0, 1, graph.edge_id("input->a0.h0<v>")] = -3.0
    >>> scores = SpanPairScores(graph, ("name", "end"), values, {"name": 1, "end": -1})
    >>> scores["name", "end"]["input->a0.h0<v>"], scores.by_source()["name"].top(1)
    (-3.0, [('input->a0.h0<v>', -3.0)])
    """

    graph: TensorGraph
    names: tuple[str, ...]
    values: Float[Tensor, "src_span dest_span edge"]
    spans: Given
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        wanted = (len(self.names), len(self.names), self.graph.n_edges)
        if tuple(self.values.shape) != wanted:
            raise GraphError(
                f"{tuple(self.values.shape)} values do not fit {len(self.names)} spans and "
                f"{self.graph!r}: {wanted}"
            )

    def __getitem__(self, ends: tuple[str, str]) -> Scores:
        """The scores from one span to another.

        Raises:
            UnknownName: no such span.
        """
        for span in ends:
            if span not in self.names:
                raise unknown("span", span, self.names)
        src, dest = map(self.names.index, ends)
        return Scores(self.graph, self.values[src, dest], self.provenance)

    def by_source(self) -> SpanScores[Scores]:
        """The scores by where writers write, summed over destinations: as `attribute_spans`."""
        return self._summed(1)

    def by_destination(self) -> SpanScores[Scores]:
        """The scores by where heads, MLPs and logits write of it, summed over sources."""
        return self._summed(0)

    @property
    def total(self) -> Scores:
        """The scores summed over all spans."""
        return Scores(self.graph, self.values.sum((0, 1)), self.provenance)

    def top(self, n: int) -> list[tuple[str, str, str, float]]:
        """Source span, destination span, edge and score of the n largest by size."""
        flat = self.values.flatten()
        ids = flat.abs().sort(descending=True, stable=True).indices[:n]
        found = []
        for i in ids.tolist():
            pair, edge = divmod(i, self.graph.n_edges)
            src, dest = divmod(pair, len(self.names))
            name = self.graph.edges[edge].name
            found.append((self.names[src], self.names[dest], name, float(flat[i])))
        return found

    def to_pandas(self) -> pandas.DataFrame:
        """A table with columns `src_span`, `dest_span`, `src`, `dest`, `score`: all but zeros."""
        from sae_circuits.graph.tables import span_pairs_table

        return span_pairs_table(self)

    def _summed(self, dim: int) -> SpanScores[Scores]:
        rows = zip(self.names, self.values.sum(dim), strict=True)
        parts = {name: Scores(self.graph, row, self.provenance) for name, row in rows}
        return SpanScores(parts, self.spans)

    def __repr__(self) -> str:
        return f"SpanPairScores({', '.join(self.names)}; {self.graph!r})"
