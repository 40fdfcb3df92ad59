"""Scores of the edges with a feature or a neuron at an end: no vector a token is made for them.

A head is d_head scalars a token with their directions, as a feature is one, so that the products of
features and heads come apart into a part over tokens and one over directions (see `products.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.gradients import Gradients
from sae_circuits.attribution.products import along_scale, narrow_by_narrow, narrow_by_wide
from sae_circuits.attribution.readers import Reader
from sae_circuits.cache import Writes
from sae_circuits.cache.expand import chosen_heads, expand_writes, take
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed


@dataclass(frozen=True, eq=False)
class Ends:
    """Both ends of all edges of a graph: what writers change, and the gradient at the readers."""

    adapter: Adapter
    graph: TensorGraph
    saes: Mapping[str, Placed]
    change: Writes
    gradients: Gradients
    tokens: Int64[Tensor, "token"]
    kept: dict[Block, Tensor] | None = None
    space: int = 0

    def through(self, reader: Block) -> bool:
        """Whether a block of readers sees the stream through a component (see `vjp.py`)."""
        return f"{reader.site}{reader.layer}" in self.gradients.points

    def scalars(self, x: Float[Tensor, "batch pos feature"]) -> Float[Tensor, "token feature"]:
        """The real tokens of one number a token and feature."""
        return take(x, self.tokens, self.gradients.dtype)


def add_features(total: Float[Tensor, "src dest"], ends: Ends) -> None:
    """Add the scores of all edges that leave a feature or lead to one."""
    for dest, reader in ends.graph.dest_starts.values():
        first, stop = ends.graph.sees(reader.depth)
        sources = [
            (src, block)
            for src, block in ends.graph.src_starts.values()
            if first <= src < stop and (block.is_narrow or reader.is_narrow)
        ]
        if not sources or ends.through(reader):
            continue
        to = _Directions.of(ends, reader) if reader.kind == "feature" else _read_by(ends, reader)
        for src, block in sources:
            total[src : src + len(block), dest : dest + len(reader)] = to.scores(ends, block)


def _read_by(ends: Ends, reader: Block) -> _Directions | _Vector:
    """How a reader that is no feature reads: a head along d_head directions a token."""
    to, dtype = Reader.of(ends.adapter, ends.gradients, reader), ends.gradients.dtype
    if to.W is None:
        g = torch.empty(
            1, len(ends.tokens), ends.adapter.architecture.d_model, dtype=dtype, device=to.s.device
        )
        to.write(ends.tokens, out=g)
        return _Vector(g[0])
    s = take(to.s, ends.tokens, dtype)[:, to.chosen]
    along = [ends.scalars(c)[:, to.chosen] for c in to.along]
    normed = [ends.scalars(x) for x in to.normed]
    return _Directions(s.flatten(1), to.W.flatten(0, 1), s.shape[2], along, normed)


@dataclass(frozen=True, eq=False)
class _Vector:
    """A reader with a vector of its own at each token: an MLP, an error node, the logits."""

    g: Float[Tensor, "token d_model"]

    def scores(self, ends: Ends, writer: Block) -> Float[Tensor, "src 1"]:
        """Those of the edges from some features."""
        a, W = _written(ends, writer)
        return narrow_by_wide(a, W, self.g)[:, None]


@dataclass(frozen=True, eq=False)
class _Directions:
    """Readers along directions of their own: one each for features, d_head each for heads.

    Args:
        b: the gradient along each direction.
        V: the directions.
        each: how many of them belong to one reader.
        along: what each reader has through its norm's scale, for each point of a path.
        normed: the normalised stream, for each point.
    """

    b: Float[Tensor, "token direction"]
    V: Float[Tensor, "direction d_model"]
    each: int
    along: list[Float[Tensor, "token dest"]]
    normed: list[Float[Tensor, "token d_model"]]

    @classmethod
    def of(cls, ends: Ends, reader: Block) -> _Directions:
        """Those of features that read the stream."""
        placed = ends.saes[f"{reader.site}{reader.layer}"]
        place = f"{placed.part}.f", placed.layer
        along = [ends.scalars(c) for c in ends.gradients.along.get(place, ())]
        normed = ends.gradients.normed[True, placed.layer] if along else ()
        b = ends.scalars(ends.gradients.at[place])
        return cls(b, placed.W_read.to(b.dtype), 1, along, [ends.scalars(x) for x in normed])

    def scores(self, ends: Ends, writer: Block) -> Float[Tensor, "src dest"]:
        """Those of the edges from some writers."""
        if not writer.is_narrow and writer.kind != "head":
            return self._from_vector(ends, writer)
        a, W = _written(ends, writer)
        score = narrow_by_narrow(a, W, self.b, self.V)
        score = score.unflatten(1, (-1, self.each)).sum(-1) if self.each > 1 else score
        for x, c in zip(self.normed, self.along, strict=True):
            score = score - along_scale(a, W, x, c)
        return score.unflatten(0, (len(writer), -1)).sum(1)

    def _from_vector(self, ends: Ends, writer: Block) -> Float[Tensor, "1 dest"]:
        d = self.b.new_empty(1, len(ends.tokens), self.V.shape[1])
        expand_writes(ends.adapter, (writer,), ends.saes, ends.change, ends.tokens, d)
        score = narrow_by_wide(self.b, self.V, d[0])[None]
        for x, c in zip(self.normed, self.along, strict=True):
            score = score - torch.linalg.vecdot(d[0], x)[None] @ c
        return score


def _written(
    ends: Ends, writer: Block
) -> tuple[Float[Tensor, "token direction"], Float[Tensor, "direction d_model"]]:
    """What features or heads change, as scalars a token, and the directions of these."""
    if writer.is_narrow:
        placed = ends.saes[f"{writer.site}{writer.layer}"]
        a = ends.scalars(ends.change[f"{placed.name}.f"])
        return a, placed.W_dec.to(a.dtype)
    assert writer.layer is not None
    chosen = chosen_heads(writer, ends.adapter.architecture.n_heads)
    z = take(ends.change[f"a{writer.layer}"], ends.tokens, ends.gradients.dtype)[:, chosen]
    W = ends.adapter.W_write(writer.layer)[chosen].to(z.dtype)
    return z.flatten(1), W.flatten(0, 1)
