"""What the writers of a circuit now write, minus their replacement, and what readers get of it.

Heads, MLPs and error nodes are kept at the width of the stream, features as one number a token. A
reader's stream is mixed from those whose edges to it are in the circuit,

    x_v = base + sum_u e_uv d_u + sum_s e_sv a_s W_s

and where a reader only projects that stream on a direction r_v, as a feature does that no norm
parts from it, the stream itself is never made:

    x_v . r_v = base . r_v + sum_u e_uv (d_u . r_v) + sum_s a_s e_sv (W_s . r_v)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.ablation.plan import Plan

MIX_BYTES = 4 << 20  # of streams mixed at a time: what stays near the processor
DENSE = 0.2  # above this share of edges one product for all readers is faster than one for each


@dataclass(frozen=True, eq=False)
class Narrow:
    """Some features of one dictionary: the change of their coefficients, and their directions."""

    ids: Int64[Tensor, "feature"]
    a: Float[Tensor, "token feature"]
    W: Float[Tensor, "feature d_model"]


@dataclass(frozen=True, eq=False)
class Changes:
    """The changes of the writers that a plan computes, as far as they are made.

    Args:
        ids: of the computed writers that are no features, ascending.
        wide: theirs, at the width of the stream.
        narrow: those of features, dictionary by dictionary.
    """

    plan: Plan
    ids: Int64[Tensor, "wide"]
    wide: Float[Tensor, "wide token d_model"]
    narrow: list[Narrow] = field(default_factory=list)

    def rows(self, ids: Int64[Tensor, "writer"]) -> Float[Tensor, "writer token d_model"]:
        """Where to write the changes of some neighbouring writers."""
        start = int(torch.searchsorted(self.ids, ids[0]))
        return self.wide[start : start + len(ids)]

    def streams(
        self, dests: Int64[Tensor, "dest"], base: Float[Tensor, "token d_model"]
    ) -> Iterator[Float[Tensor, "dest some d_model"]]:
        """The streams that some readers get, some tokens at a time.

        Each overwrites the one before.
        """
        edges, above = self._edges(dests)
        sources = edges.any(1).nonzero()[:, 0].to(base.device)
        few = 2 * len(sources) < len(above)  # then it pays to gather them
        mix = edges.T[:, sources.cpu() if few else slice(None)].to(base)
        features = [
            (narrow, present)
            for narrow in self.narrow
            if bool((present := self._of(narrow, dests)).any())
        ]
        size = max(1, MIX_BYTES // (len(dests) * base.shape[1] * base.element_size()))
        space = base.new_empty(len(dests), size * base.shape[1])
        for i, (some, at) in enumerate(zip(above.split(size, 1), base.split(size), strict=True)):
            streams = space[:, : at.numel()]
            some = some.index_select(0, sources) if few else some
            torch.addmm(at.reshape(1, -1), mix, some.flatten(1), out=streams)
            mixed = streams.unflatten(1, at.shape)
            for narrow, present in features:
                _add(mixed, narrow.a[i * size : i * size + len(at)], narrow.W, present)
            yield mixed

    def projected(
        self, dests: Int64[Tensor, "dest"], directions: Float[Tensor, "dest d_model"]
    ) -> Float[Tensor, "token dest"]:
        """What the changes add to each reader's stream along its own direction."""
        edges, above = self._edges(dests)
        out = directions.new_zeros(self.wide.shape[1], len(dests))
        for change, present in zip(above, edges, strict=True):
            to = present.nonzero()[:, 0].to(out.device)
            if len(to):
                out[:, to] += (change @ directions[to].T.to(change.dtype)).to(out.dtype)
        for narrow in self.narrow:
            present = self._of(narrow, dests)
            if bool(present.any()):
                rows = present.any(1).nonzero()[:, 0].to(out.device)
                virtual = narrow.W[rows].to(out.dtype) @ directions.T * present.to(out)[rows]
                out += narrow.a[:, rows].to(out.dtype) @ virtual
        return out

    def at(self, dest: int, tokens: Int64[Tensor, "some"]) -> Float[Tensor, "some d_model"]:
        """What the changes add to one reader's stream at some tokens."""
        edges, above = self._edges(torch.tensor([dest]))
        total = above[:, tokens][edges[:, 0].to(above.device)].sum(0)
        for narrow in self.narrow:
            present = self._of(narrow, torch.tensor([dest])).to(narrow.a.device)
            total = total + (narrow.a[tokens] * present[:, 0]) @ narrow.W
        return total

    def _edges(
        self, dests: Int64[Tensor, "dest"]
    ) -> tuple[Bool[Tensor, "above dest"], Float[Tensor, "above token d_model"]]:
        """The edges into some readers from what is kept wide, up to the last that is seen."""
        edges = self.plan.edges[self.ids][:, dests]
        seen = int(edges.any(1).nonzero()[-1]) + 1 if bool(edges.any()) else 0
        return edges[:seen], self.wide[:seen]

    def _of(self, narrow: Narrow, dests: Int64[Tensor, "dest"]) -> Bool[Tensor, "feature dest"]:
        return self.plan.edges[narrow.ids][:, dests]


def _add(
    mixed: Float[Tensor, "dest some d_model"],
    a: Float[Tensor, "some feature"],
    W: Float[Tensor, "feature d_model"],
    present: Bool[Tensor, "feature dest"],
) -> None:
    """Add features to each reader's stream, for those edges that are present."""
    if bool(present.float().mean() > DENSE):
        weights = present.T[:, :, None].to(W) * W
        mixed += torch.matmul(a, weights)
        return
    for stream, edges in zip(mixed, present.T, strict=True):
        rows = edges.nonzero()[:, 0].to(a.device)
        if len(rows):
            stream += a[:, rows] @ W[rows]
