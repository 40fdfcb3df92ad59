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
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from sae_circuits.features.effects.final import Final

TILE = 64  # streams whose products with the unembedding are held at a time
TOKENS = 8192  # of the vocabulary that are worked on at a time
ROOM = 1 << 18  # numbers of pairs of a stream and a feature, likewise
BLOCK = 32  # tokens of which the extremes are noted, to find the most extreme among
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


class Tokens(NamedTuple):
    """Some tokens of each pair, and how much higher the feature makes their log probability."""

    ids: Int64[Tensor, "pair k"]
    values: Float[Tensor, "pair k"]


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
    each, counts = (pairs.stream // TILE).unique_consecutive(return_counts=True)
    found, start = list[tuple[Tensor, ...]](), 0
    for tile, n in zip(each.tolist(), counts.tolist(), strict=True):
        found.append(work.tile(tile * TILE, slice(start, start + n)))
        start += n
    if not found:
        found.append(_nothing(work))
    direct, before, *ends = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Changes(direct, before, _ordered(ends[0], ends[1], 1), _ordered(ends[2], ends[3], -1))


class _Streams(NamedTuple):
    """A tile of streams.

    Args:
        centred: as the norm keeps them.
        scale: that it divides them by.
        M: what they make of the logits.
        size: the largest of M by size.
        total: log of the sum of exp of the logits.
    """

    centred: Float[Tensor, "row d_model"]
    scale: Float[Tensor, "row"]
    M: Float[Tensor, "row vocab"]
    size: Float[Tensor, "row"]
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
        return cls(final, pairs, k, W, bias, d, E, E.abs().amax(1), _blocks(W.shape[1], W.device))

    # -- streams ---------------------------------------------------------------------------------

    def tile(self, first: int, some: slice) -> tuple[Tensor, ...]:
        """What is found of the pairs of one tile of streams."""
        streams = self._streams(first)
        rows = self._rows(streams, self.pairs.stream[some] - first, some)
        moved = rows.v[:, 0].abs() * self.highest[rows.feature]
        small = (rows.v * rows.w)[:, 0].abs() * streams.size[rows.stream] + moved < SMALL
        large = (moved > LARGE) | self._is_steep
        again = torch.zeros_like(large)
        again[1:] = rows.stream[1:] == rows.stream[:-1]
        order, sums = list[Tensor](), list[_Sums]()
        size = max(1, ROOM // min(TOKENS, self.final.n_tokens))
        plain = ~small & ~large
        kinds = (
            (plain & ~again, _PLAIN),
            (plain & again, _PLAIN),
            (small, _SMALL),
            (large & ~small, _LARGE),
        )
        for which, rule in kinds:
            for own in which.nonzero()[:, 0].split(size):
                if len(own):
                    order.append(own)
                    sums.append(self._sums(streams, rows.some(own), rule))
        back = torch.cat(order).argsort()
        whole = _Sums(*(torch.cat(parts)[back] for parts in zip(*sums, strict=True)))
        return self._found(streams, rows, whole, self.pairs.token[some, None])

    def _streams(self, first: int) -> _Streams:
        r = self.pairs.r[first : first + TILE].to(self.final.dtype)
        r = pad(r, (0, 0, 0, TILE - len(r)))  # products of one size, whatever stands in them
        norm = self.final.norm
        x, scale = (r, r.new_ones(TILE, 1)) if norm is None else norm.normalise(r)
        M = self.final.gained(x) @ self.W_U
        logits = self._logits(M, slice(None))
        top = logits.amax(1)
        if self.final.cap is None and bool((top.abs() > LARGE).any()):
            shift = torch.where(top.abs() > LARGE, top, 0)[:, None]  # which drops out
            M = M - shift
            logits = self._logits(M, slice(None))
        size = torch.maximum(M.amax(1), -M.amin(1))
        total = logits.logsumexp(1) if self._is_steep else logits.exp().sum(1).log()
        return _Streams(x * scale, scale[:, 0], M, size, total)

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

    def _sums(self, streams: _Streams, rows: _Rows, rule: _Rule) -> _Sums:
        """What the whole vocabulary is needed for."""
        high, low, sums = list[Tensor](), list[Tensor](), list[Tensor]()
        first, alike = int(rows.stream[0]), bool((rows.stream.diff() == 1).all())
        for some in self._parts:
            part = streams.M[:, some]
            near = part[first : first + len(rows.stream)]
            M = near if alike else part.index_select(0, rows.stream)
            E = self.effects[:, some].index_select(0, rows.feature)
            y, after = self._without(rows, M, E, some)
            high += _extremes(y, torch.amax)
            low += _extremes(y, torch.amin)
            sums.append(rule.part(rows.v * y, after) if rule is _SMALL else rule.part(y, after))
        ratio = rule.whole(torch.stack(sums), streams.total[rows.stream])
        k = min(self.k, len(self.blocks))
        ends = [x.topk(k, 1).indices for x in (torch.cat(high, 1), -torch.cat(low, 1))]
        return _Sums(ratio, *ends)

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
        self, streams: _Streams, rows: _Rows, sums: _Sums, token: Int64[Tensor, "row 1"]
    ) -> tuple[Tensor, ...]:
        """What a tile's pairs come to: see `Changes`."""
        flip = rows.v < 0
        high, low = (self.blocks[x].flatten(1) for x in (sums.high, sums.low))
        ids = torch.cat([torch.where(flip, low, high), torch.where(flip, high, low), token], 1)
        near = ids.clamp(min=0)
        M = streams.M[rows.stream[:, None], near]
        E = self.effects[rows.feature[:, None], near]
        before = self._logits(M[:, -1:], token)[:, 0] - streams.total[rows.stream]
        y, _ = self._without(rows, M, E, near)
        gain = (rows.v * y + sums.ratio[:, None]).masked_fill_(ids < 0, torch.nan)
        half = (ids.shape[1] - 1) // 2
        helped, hurt = (
            (sign * gain[:, some]).nan_to_num_(nan=-torch.inf).topk(self.k, 1)
            for sign, some in ((1, slice(half)), (-1, slice(half, -1)))
        )
        own = ids[:, :half].gather(1, helped.indices), ids[:, half:-1].gather(1, hurt.indices)
        return gain[:, -1], before, own[0], helped.values, own[1], -hurt.values


class _Sums(NamedTuple):
    """What is summed or searched over the vocabulary, of some pairs.

    Args:
        ratio: log of the sum of exp of the logits without the feature, over the sum with it.
        high, low: the blocks that hold the largest y, and the smallest.
    """

    ratio: Float[Tensor, "row"]
    high: Int64[Tensor, "row k"]
    low: Int64[Tensor, "row k"]


# -- sums over the vocabulary ----------------------------------------------------------------------


class _Rule(NamedTuple):
    """How the log of the sum of exp of the logits changes, by parts of the vocabulary."""

    part: Callable[[Tensor, Tensor], Tensor]
    whole: Callable[[Tensor, Tensor], Tensor]


_PLAIN = _Rule(
    lambda less, after: after.exp_().sum(1), lambda sums, total: sums.sum(0).log() - total
)
_SMALL = _Rule(  # which is exact where little changes
    lambda less, after: (torch.exp(after + less) * torch.expm1(-less)).sum(1),
    lambda sums, total: (sums.sum(0) / total.exp()).log1p(),
)
_LARGE = _Rule(  # where exp would overflow
    lambda less, after: after.logsumexp(1), lambda sums, total: sums.logsumexp(0) - total
)


# -- the largest of many ---------------------------------------------------------------------------


def _extremes(
    x: Float[Tensor, "row some"], extreme: Callable[..., Tensor]
) -> list[Float[Tensor, "row block"]]:
    """Those of blocks of every n-th column, and of the columns that are left: see `_blocks`."""
    even = x.shape[1] - x.shape[1] % BLOCK
    found = [extreme(x[:, :even].unflatten(1, (BLOCK, -1)), dim=1)] if even else []
    return found + ([extreme(x[:, even:], dim=1, keepdim=True)] if even < x.shape[1] else [])


def _blocks(n_tokens: int, device: torch.device) -> Int64[Tensor, "block size"]:
    """Which tokens `_extremes` takes together, part by part of the vocabulary; -1 for none."""
    found = list[Tensor]()
    for part in torch.arange(n_tokens, device=device).split(TOKENS):
        even = len(part) - len(part) % BLOCK
        found.append(part[:even].view(BLOCK, -1).T)
        if even < len(part):
            found.append(pad(part[None, even:], (0, BLOCK - len(part) + even), value=-1))
    return torch.cat(found)


def _ordered(ids: Int64[Tensor, "row k"], values: Float[Tensor, "row k"], sign: int) -> Tokens:
    """The largest first, or the smallest for a sign of -1; ties by the lower id."""
    ids, by = ids.sort(1)
    _, order = (sign * values.gather(1, by)).sort(dim=1, descending=True, stable=True)
    return Tokens(ids.gather(1, order), values.gather(1, by.gather(1, order)))


def _nothing(work: _Work) -> tuple[Tensor, ...]:
    """What is found of no pair."""
    none = work.effects.new_zeros(0)
    lists = none.new_zeros(0, work.k, dtype=torch.int64), none.new_zeros(0, work.k)
    return (none, none, *lists, *lists)
