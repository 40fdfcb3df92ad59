"""Scores of the edges with a feature at one end or at both: no vector a token is made for them.

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

    def through(self, reader: Block) -> bool:
        """Whether a block of readers sees the stream through a component (see `vjp.py`)."""
        return f"{reader.site}{reader.layer}" in self.gradients.points

    def scalars(self, x: Float[Tensor, "batch pos feature"]) -> Float[Tensor, "token feature"]:
        """The real tokens of one number a token and feature."""
        return take(x, self.tokens, self.gradients.dtype)


def add_features(total: Float[Tensor, "src dest"], ends: Ends) -> None:
    """Add the scores of all edges that leave a feature or lead to one."""
    graph = ends.graph
    for dest, reader in graph.dest_starts.values():
        if ends.through(reader):
            continue
        first, stop = graph.sees(reader.depth)
        columns = slice(dest, dest + len(reader))
        for src, block in graph.src_starts.values():
            is_feature = "feature" in (block.kind, reader.kind)
            if is_feature and src < stop and first < src + len(block):
                total[src : src + len(block), columns] = _scores(ends, block, reader)


def _scores(ends: Ends, writer: Block, reader: Block) -> Float[Tensor, "src dest"]:
    """The scores between two blocks, one of which at least is of features."""
    if writer.kind == "feature":
        return _from_features(ends, ends.saes[f"{writer.site}{writer.layer}"], reader)
    return _to_features(ends, writer, ends.saes[f"{reader.site}{reader.layer}"])


def _from_features(ends: Ends, placed: Placed, reader: Block) -> Float[Tensor, "src dest"]:
    dtype = ends.gradients.dtype
    a, W = ends.scalars(ends.change[f"{placed.name}.f"]), placed.W_dec.to(dtype)
    if reader.kind == "feature":
        b, V, along, normed = _gradient(ends, ends.saes[f"{reader.site}{reader.layer}"])
        score = narrow_by_narrow(a, W, b, V)
    else:
        to = Reader.of(ends.adapter, ends.gradients, reader)
        if to.W is None:
            g = a.new_empty(1, len(ends.tokens), W.shape[1])
            to.write(ends.tokens, out=g)
            return narrow_by_wide(a, W, g[0])[:, None]
        s = take(to.s, ends.tokens, dtype)[:, to.chosen]
        score = narrow_by_narrow(a, W, s.flatten(1), to.W.flatten(0, 1))
        score = score.unflatten(1, s.shape[1:]).sum(-1)
        along = [ends.scalars(c)[:, to.chosen] for c in to.along]
        normed = [ends.scalars(x) for x in to.normed]
    for x, c in zip(normed, along, strict=True):
        score = score - along_scale(a, W, x, c)
    return score


def _to_features(ends: Ends, writer: Block, placed: Placed) -> Float[Tensor, "src dest"]:
    b, V, along, normed = _gradient(ends, placed)
    if writer.kind != "head":
        d = b.new_empty(1, len(ends.tokens), V.shape[1])
        expand_writes(ends.adapter, (writer,), ends.saes, ends.change, ends.tokens, d)
        score = narrow_by_wide(b, V, d[0])[None]
        for x, c in zip(normed, along, strict=True):
            score = score - torch.linalg.vecdot(d[0], x)[None] @ c
        return score
    assert writer.layer is not None
    chosen = chosen_heads(writer, ends.adapter.architecture.n_heads)
    W = ends.adapter.W_write(writer.layer)[chosen].to(b.dtype)
    z = take(ends.change[f"a{writer.layer}"], ends.tokens, b.dtype)[:, chosen]
    score = narrow_by_narrow(z.flatten(1), W.flatten(0, 1), b, V)
    for x, c in zip(normed, along, strict=True):
        score = score - along_scale(z.flatten(1), W.flatten(0, 1), x, c)
    return score.unflatten(0, W.shape[:2]).sum(1)


def _gradient(
    ends: Ends, placed: Placed
) -> tuple[
    Float[Tensor, "token feature"], Float[Tensor, "feature d_model"], list[Tensor], list[Tensor]
]:
    """At features' pre-activations: scalars and directions, and what the norm's scale adds."""
    place = f"{placed.part}.f", placed.layer
    along = [ends.scalars(c) for c in ends.gradients.along.get(place, ())]
    normed = ends.gradients.normed[True, placed.layer] if along else ()
    b = ends.scalars(ends.gradients.at[place])
    return b, placed.W_read.to(b.dtype), along, [ends.scalars(x) for x in normed]
