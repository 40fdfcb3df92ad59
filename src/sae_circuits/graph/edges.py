"""The edges of a graph as a lazy sequence of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, overload

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.graph.blocks import node_at
from sae_circuits.graph.nodes import Edge

if TYPE_CHECKING:
    from sae_circuits.graph.tensor_graph import TensorGraph


_NONE = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Edges(Sequence[Edge]):
    """A lazy sequence of the edges of a graph, all or those of the given ids."""

    graph: TensorGraph
    ids: Int64[Tensor, "edge"] | None = field(default=None)

    def __len__(self) -> int:
        return self.graph.n_edges if self.ids is None else len(self.ids)

    @overload
    def __getitem__(self, i: int) -> Edge: ...
    @overload
    def __getitem__(self, i: slice) -> Edges: ...
    def __getitem__(self, i: int | slice) -> Edge | Edges:
        if isinstance(i, slice):
            chosen = range(*i.indices(len(self)))  # torch knows no negative step
            picked = torch.arange(chosen.start, chosen.stop, chosen.step) if chosen else _NONE
            return Edges(self.graph, picked if self.ids is None else self.ids[picked])
        if not -len(self) <= i < len(self):
            raise IndexError(f"edge {i} of {len(self)}")
        i %= len(self)
        edge_id = torch.tensor([i]) if self.ids is None else self.ids[i : i + 1]
        return next(self._made(edge_id))

    def __iter__(self) -> Iterator[Edge]:
        every = torch.arange(self.graph.n_edges) if self.ids is None else self.ids
        for chunk in every.split(1 << 16):
            yield from self._made(chunk)

    def __contains__(self, edge: object) -> bool:
        if not isinstance(edge, Edge | str):
            return False
        try:
            edge_id = self.graph.edge_id(edge)
        except GraphError:
            return False
        return self.ids is None or bool((self.ids == edge_id).any())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # a sequence compares by content

    def _made(self, ids: Int64[Tensor, "edge"]) -> Iterator[Edge]:
        src, dest = self.graph.ends(ids)  # whose nodes alone are made, of graphs with many
        writers = {i: node_at(self.graph.src_starts, i) for i in src.unique().tolist()}
        readers = {i: node_at(self.graph.dest_starts, i) for i in dest.unique().tolist()}
        for s, d in zip(src.tolist(), dest.tolist(), strict=True):
            yield Edge(writers[s], readers[d])

    def __repr__(self) -> str:
        shown = ", ".join(edge.name for edge in self[:4])
        return f"Edges([{shown}{', ...' if len(self) > 4 else ''}], {len(self):,} edges)"
