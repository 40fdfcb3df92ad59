"""What the writers of a circuit now write, minus their replacement, and what readers get of it.

Heads, MLPs and error nodes are kept at the width of the stream, features as one number a token. A
reader's stream is mixed from those whose edges to it are in the circuit,

    x_v = base + sum_u e_uv d_u + sum_s e_sv a_s W_s

and where a reader only projects that stream on a direction r_v, as a feature does that no norm
parts from it, the stream itself is never made:

    x_v . r_v = base . r_v + sum_u e_uv (d_u . r_v) + sum_s a_s e_sv (W_s . r_v)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.ablation.plan import Plan
from sae_circuits.precision import wide_dtype

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
        mixes = [_Mix.of(self, dests, edges) for edges in self.plan.at]
        size = max(1, MIX_BYTES // (len(dests) * base.shape[1] * base.element_size()))
        space = base.new_empty(len(dests), size * base.shape[1])
        for start in range(0, len(base), size):
            at = base[start : start + size]
            streams = space[:, : at.numel()]
            tokens = torch.arange(start, start + len(at), device=base.device)
            if self.plan.labels is None:
                mixes[0].write(slice(start, start + len(at)), at, out=streams)
            for mix, own in self._by_part(mixes, tokens):
                mixed = base.new_empty(len(dests), len(own) * base.shape[1])
                mix.write(tokens[own], at[own], out=mixed)
                streams.unflatten(1, at.shape)[:, own] = mixed.unflatten(1, (len(own), -1))
            yield streams.unflatten(1, at.shape)

    def projected(
        self, dests: Int64[Tensor, "dest"], directions: Float[Tensor, "dest d_model"]
    ) -> Float[Tensor, "token dest"]:
        """What the changes add to each reader's stream along its own direction."""
        shape, dtype = (self.wide.shape[1], len(dests)), wide_dtype(directions.dtype)
        out = directions.new_zeros(shape, dtype=dtype)  # a sum over all sources
        mixes = [_Mix.of(self, dests, edges) for edges in self.plan.at]
        if self.plan.labels is None:
            mixes[0].project(slice(None), directions, out)
        for mix, own in self._by_part(mixes, torch.arange(len(out), device=out.device)):
            part = out[own]
            mix.project(own, directions, part)
            out[own] = part
        return out

    def at(self, dest: int, tokens: Int64[Tensor, "some"]) -> Float[Tensor, "some d_model"]:
        """What the changes add to one reader's stream at some tokens."""
        mixes = [_Mix.of(self, torch.tensor([dest]), edges) for edges in self.plan.at]
        if self.plan.labels is None:
            return mixes[0].at(tokens)
        total = self.wide.new_zeros(len(tokens), self.wide.shape[2])
        for mix, own in self._by_part(mixes, tokens):
            total[own] = mix.at(tokens[own])
        return total

    def _by_part(
        self, mixes: Sequence[_Mix], tokens: Int64[Tensor, "some"]
    ) -> Iterator[tuple[_Mix, Int64[Tensor, "own"]]]:
        """Of a circuit by span, what is mixed at each part, and where its tokens are in some."""
        if self.plan.labels is None:
            return
        labels = self.plan.labels.to(tokens.device)[tokens]
        for i, mix in enumerate(mixes):
            own = (labels == i).nonzero()[:, 0]
            if len(own):
                yield mix, own


@dataclass(frozen=True, eq=False)
class _Mix:
    """What some readers get of the changes by one set of edges.

    Args:
        edges: from what is kept wide, up to the last that is seen.
        above: the changes of these.
        features: those of features that some reader gets, with which.
    """

    edges: Bool[Tensor, "above dest"]
    above: Float[Tensor, "above token d_model"]
    features: list[tuple[Narrow, Bool[Tensor, "_ dest"]]]

    @classmethod
    def of(
        cls, changes: Changes, dests: Int64[Tensor, "dest"], among: Bool[Tensor, "src dest_"]
    ) -> _Mix:
        """That of some readers."""
        edges = among[changes.ids][:, dests]
        seen = int(edges.any(1).nonzero()[-1]) + 1 if bool(edges.any()) else 0
        narrow = [(narrow, among[narrow.ids][:, dests]) for narrow in changes.narrow]
        present = [(narrow, own) for narrow, own in narrow if bool(own.any())]
        return cls(edges[:seen], changes.wide[:seen], present)

    def write(
        self,
        tokens: slice | Int64[Tensor, "some"],
        base: Float[Tensor, "some d_model"],
        out: Float[Tensor, "dest flat"],
    ) -> None:
        """Write the readers' streams at some tokens to `out`."""
        sources = self.edges.any(1).nonzero()[:, 0].to(base.device)
        few = 2 * len(sources) < len(self.above)  # then it pays to gather them
        mix = self.edges.T[:, sources.cpu() if few else slice(None)].to(base)
        some = self.above[:, tokens]
        some = some.index_select(0, sources) if few else some
        torch.addmm(base.reshape(1, -1), mix, some.flatten(1), out=out)
        for narrow, present in self.features:
            _add(out.unflatten(1, base.shape), narrow.a[tokens], narrow.W, present)

    def project(
        self,
        tokens: slice | Int64[Tensor, "some"],
        directions: Float[Tensor, "dest d_model"],
        out: Float[Tensor, "some dest"],
    ) -> None:
        """Add each reader's stream along its own direction, at some tokens, to `out`."""
        for change, present in zip(self.above, self.edges, strict=True):
            to = present.nonzero()[:, 0].to(out.device)
            if len(to):
                own = change[tokens] @ directions[to].T.to(change.dtype)
                out[:, to] += own.to(out.dtype)
        for narrow, present in self.features:
            rows = present.any(1).nonzero()[:, 0].to(out.device)
            virtual = narrow.W[rows].to(out.dtype) @ directions.T.to(out.dtype)
            virtual = virtual * present.to(out)[rows]
            out += narrow.a[tokens][:, rows].to(out.dtype) @ virtual

    def at(self, tokens: Int64[Tensor, "some"]) -> Float[Tensor, "some d_model"]:
        """What the only reader gets at some tokens."""
        total = self.above[:, tokens][self.edges[:, 0].to(self.above.device)].sum(0)
        for narrow, present in self.features:
            own = present[:, 0].to(narrow.a.device)
            total = total + (narrow.a[tokens] * own) @ narrow.W
        return total


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
