"""Scores by where in the prompt they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import unknown
from sae_circuits.graph.scores import NodeScores, Provenance, Scores
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:
    import pandas

Where = int | range | Tensor
"""Of each prompt a position, -1 for its last; or positions of all, [n]; or a mask, [n, pos]."""

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
