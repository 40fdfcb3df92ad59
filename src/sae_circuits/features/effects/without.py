"""What log probabilities become when features' own directions are taken from final streams.

With r a final stream, s the scale that the final norm divides it by, g its gain, b all that is
constant in the logits, and a d what a feature adds (a its coefficient, d its direction), the logits
with it and without it are, before a cap,

    L = M + b,    M = (g r / s) W_U
    L' = (s / s') M - (a / s') E + b,    E = (g d) W_U,    s' the scale of r - a d

with r and d centred where the norm centres. So one product with the unembedding is enough for a
stream, and one for a feature; what remains is elementwise. Their difference is taken as such, so
that it is exact for a small activation too:

    L - L' = u M + (a / s') E,    u = 1 - s / s' = (s'^2 - s^2) / (s' (s' + s))

A constant may be added to a row of M: it drops out of all probabilities. Streams are taken in tiles
of one size, so that a row's numbers do not hang on the others.

The tokens that are helped and hurt most are those at the ends of y = E + (u s' / a) M. Looking at
all of them costs as much as the sums, and as a rule the ends of y lie among those of E, which are
found once for a feature: only where another token could be further out are all looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.vocabulary import (
    BY_DIFFERENCE,
    BY_EXP,
    BY_LOGS,
    LIKELY,
    Likely,
    Rule,
    Tokens,
    blocks_of,
    extremes,
    ordered,
)

TILES = 16, 256  # streams whose products with the unembedding are held at a time: least, most
HELD = 1 << 21  # numbers of these products, as far as there may be so few
TOKENS = 8192  # of the vocabulary that are worked on at a time
ROOM = 1 << 18  # numbers of pairs of a stream and a feature, likewise
SMALL, LARGE = 1e-2, 30.0  # differences of logits; beyond the last one exp may have no room


@dataclass(frozen=True, eq=False)
class Pairs:
    """Final streams, and features that are taken from them.

    Args:
        r: the streams.
        directions: what each feature adds per unit of its coefficient.
        effects: those of the directions on the logits, (g d) W_U, not centred.
        stream: of each pair, rising.
        feature: of each pair.
        coefficient: of each pair.
        token: of each pair, whose probability is asked for.
    """

    r: Float[Tensor, "stream d_model"]
    directions: Float[Tensor, "feature d_model"]
    effects: Float[Tensor, "feature vocab"]
    stream: Int64[Tensor, "pair"]
    feature: Int64[Tensor, "pair"]
    coefficient: Float[Tensor, "pair"]
    token: Int64[Tensor, "pair"]


@dataclass(frozen=True, eq=False)
class Changes:
    """What the features do, in nats; above 0 they help.

    Args:
        direct: of the pair's token, log p with the feature minus log p without it.
        before: that token's log p with it.
        helped: the tokens that are helped most; values of 0 or less are of no token.
        hurt: those that are hurt most; values of 0 or more are of no token.
    """

    direct: Float[Tensor, "pair"]
    before: Float[Tensor, "pair"]
    helped: Tokens
    hurt: Tokens

    def some(self, pairs: Int64[Tensor, "some"]) -> Changes:
        """Those of some pairs, in this order."""
        lists = (Tokens(own.ids[pairs], own.values[pairs]) for own in (self.helped, self.hurt))
        return Changes(self.direct[pairs], self.before[pairs], *lists)


@torch.no_grad()
def changes(final: Final, pairs: Pairs, k: int) -> Changes:
    """What features do to the log probabilities that follow some final streams.

    Args:
        final: the end of the model.
        k: how many tokens to list that are helped, and hurt.
    """
    work = _Work.of(final, pairs, min(k, final.n_tokens))
    each, counts = (pairs.stream // work.tiles).unique_consecutive(return_counts=True)
    found, start = list[tuple[Tensor, ...]](), 0
    for tile, n in zip(each.tolist(), counts.tolist(), strict=True):
        found.append(work.tile(tile * work.tiles, slice(start, start + n)))
        start += n
    if not found:
        found.append(_nothing(work))
    direct, before, *ends = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Changes(direct, before, ordered(ends[0], ends[1], 1), ordered(ends[2], ends[3], -1))


class _Streams(NamedTuple):
    """A tile of streams.

    Args:
        centred: as the norm keeps them.
        scale: that it divides them by.
        M: what they make of the logits.
        low, high: the least and the largest of M.
        total: log of the sum of exp of the logits.
    """

    centred: Float[Tensor, "row d_model"]
    scale: Float[Tensor, "row"]
    M: Float[Tensor, "row vocab"]
    low: Float[Tensor, "row"]
    high: Float[Tensor, "row"]
    total: Float[Tensor, "row"]


class _Rows(NamedTuple):
    """Pairs of a tile: L' - L = -v (E[feature] + w M[stream]), where v w is the u of above."""

    stream: Int64[Tensor, "row"]
    feature: Int64[Tensor, "row"]
    v: Float[Tensor, "row 1"]
    w: Float[Tensor, "row 1"]

    def some(self, index: Int64[Tensor, "some"]) -> _Rows:
        """A few of them."""
        return _Rows(*(x[index] for x in self))


@dataclass(frozen=True, eq=False)
class _Work:
    """What all tiles need.

    Args:
        k: how many tokens to list.
        W_U: the unembedding, in the dtype of the work.
        bias: all that is constant in the logits; None for nothing.
        centred: the directions as the norm keeps them.
        effects: of these on the logits.
        highest: the largest of each row of effects by size.
        likely: where to look first for what a feature helps and hurts; None for everywhere.
        blocks: the tokens of each block; -1 for none.
    """

    final: Final
    pairs: Pairs
    k: int
    W_U: Float[Tensor, "d_model vocab"]
    bias: Float[Tensor, "vocab"] | None
    centred: Float[Tensor, "feature d_model"]
    effects: Float[Tensor, "feature vocab"]
    highest: Float[Tensor, "feature"]
    likely: Likely | None
    blocks: Int64[Tensor, "block size"]

    @classmethod
    def of(cls, final: Final, pairs: Pairs, k: int) -> _Work:
        """For some pairs."""
        W, norm = final.W_U.to(final.dtype), final.norm
        d, E = pairs.directions.to(final.dtype), pairs.effects.to(final.dtype)
        if norm is not None and norm.centres:
            one = final.gained(torch.ones_like(W[:, 0])) @ W
            E, d = E - d.mean(1, keepdim=True) * one, norm.centre(d)
        parts = [final.bias, None if norm is None or norm.bias is None else norm.bias @ W]
        held = [part for part in parts if part is not None and bool(part.any())]
        bias = torch.stack(held).sum(0) if held else None
        few = k <= LIKELY and final.n_tokens >= 2 * LIKELY and final.cap is None
        return cls(
            final, pairs, k, W, bias, d, E, E.abs().amax(1), Likely.of(E) if few else None,
            blocks_of(W.shape[1], TOKENS, W.device),
        )  # fmt: skip

    # -- streams ---------------------------------------------------------------------------------

    def tile(self, first: int, some: slice) -> tuple[Tensor, ...]:
        """What is found of the pairs of one tile of streams."""
        streams = self._streams(first)
        rows = self._rows(streams, self.pairs.stream[some] - first, some)
        moved = rows.v[:, 0].abs() * self.highest[rows.feature]
        size = torch.maximum(streams.high, -streams.low)
        small = (rows.v * rows.w)[:, 0].abs() * size[rows.stream] + moved < SMALL
        large = (moved > LARGE) | self._is_steep
        again = torch.zeros_like(large)
        again[1:] = rows.stream[1:] == rows.stream[:-1]
        ratio = torch.empty_like(moved)
        plain = ~small & ~large
        kinds = (
            (plain & ~again, BY_EXP),
            (plain & again, BY_EXP),
            (small, BY_DIFFERENCE),
            (large & ~small, BY_LOGS),
        )
        for which, rule in kinds:
            for own in self._split(which):
                ratio[own] = self._ratio(streams, rows.some(own), rule)
        return self._found(streams, rows, ratio, self.pairs.token[some, None])

    def _split(self, which: Bool[Tensor, "row"]) -> Iterator[Int64[Tensor, "some"]]:
        """Those that are meant, as many at a time as there is room for."""
        size = max(1, ROOM // min(TOKENS, self.final.n_tokens))
        return (own for own in which.nonzero()[:, 0].split(size) if len(own))

    def _streams(self, first: int) -> _Streams:
        n = self.tiles
        r = self.pairs.r[first : first + n].to(self.final.dtype)
        r = pad(r, (0, 0, 0, n - len(r)))  # products of one size, whatever stands in them
        norm = self.final.norm
        x, scale = (r, r.new_ones(n, 1)) if norm is None else norm.normalise(r)
        M = self.final.gained(x) @ self.W_U
        logits = self._logits(M, slice(None))
        top = logits.amax(1)
        if self.final.cap is None and bool((top.abs() > LARGE).any()):
            shift = torch.where(top.abs() > LARGE, top, 0)[:, None]  # which drops out
            M = M - shift
            logits = self._logits(M, slice(None))
        total = logits.logsumexp(1) if self._is_steep else logits.exp().sum(1).log()
        return _Streams(x * scale, scale[:, 0], M, M.amin(1), M.amax(1), total)

    @property
    def tiles(self) -> int:
        """How many streams are held at a time."""
        least, most = TILES
        return max(least, min(most, HELD // self.final.n_tokens))

    @property
    def _is_steep(self) -> bool:
        """Whether capped logits may be too large for exp."""
        return self.final.cap is not None and self.final.cap > 2 * LARGE

    @property
    def _parts(self) -> list[slice]:
        """Of the vocabulary, those that are worked on at a time."""
        return [slice(i, i + TOKENS) for i in range(0, self.final.n_tokens, TOKENS)]

    def _logits(self, M: Float[Tensor, "row some"], which: slice | Tensor) -> Tensor:
        """Of what a stream makes of them."""
        x = M if self.bias is None else M + self.bias[which]
        cap = self.final.cap
        return x if cap is None else torch.tanh(x / cap).mul_(cap)

    def _rows(self, streams: _Streams, stream: Int64[Tensor, "own"], some: slice) -> _Rows:
        """Some pairs, with the scales with and without their features."""
        feature = self.pairs.feature[some]
        a = self.pairs.coefficient[some, None].to(self.final.dtype)
        norm, s = self.final.norm, streams.scale[stream, None]
        if norm is None:
            return _Rows(stream, feature, a, torch.zeros_like(a))
        r, d = streams.centred[stream], self.centred[feature]
        less = (d * (a * d - 2 * r)).mean(1, keepdim=True)  # (s'^2 - s^2) / a
        without = ((r - a * d).pow(2).mean(1, keepdim=True) + norm.eps).sqrt()
        return _Rows(stream, feature, a / without, less / (without + s))

    # -- pairs -----------------------------------------------------------------------------------

    def _ratio(self, streams: _Streams, rows: _Rows, rule: Rule) -> Float[Tensor, "row"]:
        """Log of the sum of exp of the logits without the features, over the sum with them."""
        sums = list[Tensor]()
        for some in self._parts:
            y, after = self._without(rows, *self._of_part(streams, rows, some), some)
            sums.append(rule.part(rows.v, y, after))
        return rule.whole(torch.stack(sums), streams.total[rows.stream])

    def _of_part(
        self, streams: _Streams, rows: _Rows, some: slice
    ) -> tuple[Float[Tensor, "row some"], Float[Tensor, "row some"]]:
        """M and E of a part of the vocabulary."""
        first, part = int(rows.stream[0]), streams.M[:, some]
        near = part[first : first + len(rows.stream)]
        alike = bool((rows.stream.diff() == 1).all())
        M = near if alike else part.index_select(0, rows.stream)
        return M, self.effects[:, some].index_select(0, rows.feature)

    def _without(
        self,
        rows: _Rows,
        M: Float[Tensor, "row some"],
        E: Float[Tensor, "row some"],
        which: slice | Int64[Tensor, "row some"],
    ) -> tuple[Float[Tensor, "row some"], Float[Tensor, "row some"]]:
        """y of L' = L - v y, and L'; E is used up."""
        y = E.addcmul_(M, rows.w)
        after = torch.addcmul(M, y, rows.v, value=-1)
        if self.final.cap is None:
            return y, after if self.bias is None else after.add_(self.bias[which])
        after = self._logits(after, which)
        v = torch.where(rows.v == 0, 1, rows.v)
        return (self._logits(M, which) - after) / v, after

    def _found(
        self,
        streams: _Streams,
        rows: _Rows,
        ratio: Float[Tensor, "row"],
        token: Int64[Tensor, "row 1"],
    ) -> tuple[Tensor, ...]:
        """What a tile's pairs come to: see `Changes`."""
        before = self._logits(streams.M[rows.stream[:, None], token], token)[:, 0]
        before = before - streams.total[rows.stream]
        direct = self._gain(streams, rows, ratio, token)[:, 0]
        if self.likely is None:
            return (
                direct,
                before,
                *self._ends(streams, rows, ratio, self._everywhere(streams, rows)),
            )
        ends = self._ends(streams, rows, ratio, self.likely.ids[rows.feature])
        for own in self._split(~self._beyond(streams, rows, ratio, ends)):
            few = rows.some(own)
            more = self._ends(streams, few, ratio[own], self._everywhere(streams, few))
            for kept, found in zip(ends, more, strict=True):
                kept[own] = found
        return direct, before, *ends

    def _gain(
        self,
        streams: _Streams,
        rows: _Rows,
        ratio: Float[Tensor, "row"],
        ids: Int64[Tensor, "row some"],
    ) -> Float[Tensor, "row some"]:
        """How much higher the features make the log probabilities of some tokens."""
        n = self.final.n_tokens
        M = streams.M.take(rows.stream[:, None] * n + ids)
        E = self.effects.take(rows.feature[:, None] * n + ids)
        y, _ = self._without(rows, M, E, ids)
        return rows.v * y + ratio[:, None]

    def _ends(
        self,
        streams: _Streams,
        rows: _Rows,
        ratio: Float[Tensor, "row"],
        ids: Int64[Tensor, "row some"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens and gains of those among some that are helped most, and of those hurt most."""
        gain = self._gain(streams, rows, ratio, ids.clamp(min=0))
        gain.masked_fill_(ids < 0, torch.nan)
        helped, hurt = (
            (sign * gain).nan_to_num_(nan=-torch.inf).topk(self.k, 1) for sign in (1, -1)
        )
        own = (ids.gather(1, some.indices) for some in (helped, hurt))
        return next(own), helped.values, next(own), -hurt.values

    def _beyond(
        self,
        streams: _Streams,
        rows: _Rows,
        ratio: Float[Tensor, "row"],
        ends: tuple[Tensor, Tensor, Tensor, Tensor],
    ) -> Bool[Tensor, "row"]:
        """Of which pairs no other token than the likely ones can be as far out."""
        assert self.likely is not None
        M = torch.stack([streams.low, streams.high], 1)[rows.stream] * rows.w
        low = self.likely.low[rows.feature] + M.amin(1, keepdim=True)
        high = self.likely.high[rows.feature] + M.amax(1, keepdim=True)
        bounds = rows.v * torch.cat([low, high], 1) + ratio[:, None]
        return (ends[1][:, -1] > bounds.amax(1)) & (ends[3][:, -1] < bounds.amin(1))

    def _everywhere(self, streams: _Streams, rows: _Rows) -> Int64[Tensor, "row some"]:
        """Tokens among which the most extreme of each pair are, out of all; -1 for none."""
        high, low = list[Tensor](), list[Tensor]()
        for some in self._parts:
            y, _ = self._without(rows, *self._of_part(streams, rows, some), some)
            high += extremes(y, torch.amax)
            low += extremes(y, torch.amin)
        k = min(self.k, len(self.blocks))
        most, least = (x.topk(k, 1).indices for x in (torch.cat(high, 1), -torch.cat(low, 1)))
        twice = (least[:, :, None] == most[:, None]).any(2)
        other = self.blocks[least].masked_fill_(twice[:, :, None], -1)
        return torch.cat([self.blocks[most], other], 1).flatten(1)


def _nothing(work: _Work) -> tuple[Tensor, ...]:
    """What is found of no pair."""
    none = work.effects.new_zeros(0)
    lists = none.new_zeros(0, work.k, dtype=torch.int64), none.new_zeros(0, work.k)
    return (none, none, *lists, *lists)
