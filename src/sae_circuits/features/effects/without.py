"""What log probabilities become when features' own directions are taken from final streams.

With r a final stream, s the scale that the final norm divides it by, g its gain, b all that is
constant in the logits, and a d what a feature adds (a its coefficient, d its direction), the logits
with it and without it are, before a cap,

    L = M + b,    M = (g r / s) W_U
    L' = (s / s') M - (a / s') E + b,    E = (g d) W_U,    s' the scale of r - a d

with r and d centred where the norm centres. So one product with the unembedding is enough for a
stream, and one for a feature; what remains is elementwise. Their difference is taken as such, so
that it is exact for a small activation too:

    L' - L = -(u M + (a / s') E),    u = 1 - s / s' = (s'^2 - s^2) / (s' (s' + s))

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
ROWS = 16  # pairs of a stream and a feature that are worked on at a time
TOKENS = 8192  # of the vocabulary, likewise
BLOCK = 32  # tokens of which the extremes are noted, to find the most extreme among
SMALL, LARGE = 1e-2, 60.0  # differences of logits; beyond the last one exp has no room


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


@torch.no_grad()
def changes(final: Final, pairs: Pairs, k: int) -> Changes:
    """What features do to the log probabilities that follow some final streams.

    Args:
        final: the end of the model.
        k: how many tokens to list that are helped, and hurt.
    """
    work = _Work.of(final, pairs, min(k, final.n_tokens))
    n, like = len(pairs.stream), work.effects
    ids = [torch.zeros(n, work.k, dtype=torch.int64, device=like.device) for _ in range(2)]
    lists = (Tokens(own, like.new_zeros(own.shape)) for own in ids)
    found = Changes(like.new_zeros(n), like.new_zeros(n), *lists)
    each, counts = (pairs.stream // TILE).unique_consecutive(return_counts=True)
    parts = torch.arange(n, device=like.device).split(counts.tolist())
    for tile, some in zip(each.tolist(), parts, strict=True):
        work.tile(tile * TILE, some, found)
    return found


class _Streams(NamedTuple):
    """A tile of streams.

    Args:
        centred: as the norm keeps them.
        scale: that it divides them by.
        M: what they make of the logits; without a cap, over the largest logit.
        top: with a cap, the largest logit; else 0.
        size: the largest of M by size.
        total: log of the sum of exp of the logits, over the largest.
    """

    centred: Float[Tensor, "row d_model"]
    scale: Float[Tensor, "row"]
    M: Float[Tensor, "row vocab"]
    top: Float[Tensor, "row"]
    size: Float[Tensor, "row"]
    total: Float[Tensor, "row"]


class _Rows(NamedTuple):
    """Pairs of a tile: L' - L = -(u M[stream] + v E[feature])."""

    stream: Int64[Tensor, "row"]
    feature: Int64[Tensor, "row"]
    u: Float[Tensor, "row 1"]
    v: Float[Tensor, "row 1"]

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

    def tile(self, first: int, some: Int64[Tensor, "own"], found: Changes) -> None:
        """Fill in the pairs of one tile of streams."""
        streams = self._streams(first)
        rows = self._rows(streams, self.pairs.stream[some] - first, some)
        moved = rows.v[:, 0].abs() * self.highest[rows.feature]
        small = rows.u[:, 0].abs() * streams.size[rows.stream] + moved < SMALL
        large = moved > LARGE
        for which, rule in ((small, _SMALL), (large, _LARGE), (~small & ~large, _PLAIN)):
            for own in which.nonzero()[:, 0].split(ROWS):
                self._fill(streams, rows.some(own), rule, some[own], found)

    def _streams(self, first: int) -> _Streams:
        r = self.pairs.r[first : first + TILE].to(self.final.dtype)
        r = pad(r, (0, 0, 0, TILE - len(r)))  # products of one size, whatever stands in them
        norm = self.final.norm
        x, scale = (r, r.new_ones(TILE, 1)) if norm is None else norm.normalise(r)
        M = self.final.gained(x) @ self.W_U
        logits = self._logits(M, slice(None))
        top = logits.amax(1, keepdim=True)
        total = (logits - top).exp_().sum(1).log()
        if self.final.cap is None:
            M -= top
            top = torch.zeros_like(top)
        size = torch.maximum(M.amax(1), -M.amin(1))
        return _Streams(x * scale, scale[:, 0], M, top[:, 0], size, total)

    def _logits(self, M: Float[Tensor, "row some"], which: slice | Tensor) -> Tensor:
        """Of what a stream makes of them."""
        x = M if self.bias is None else M + self.bias[which]
        cap = self.final.cap
        return x if cap is None else torch.tanh(x / cap).mul_(cap)

    def _rows(
        self, streams: _Streams, stream: Int64[Tensor, "own"], some: Int64[Tensor, "own"]
    ) -> _Rows:
        """Some pairs, with the scales with and without their features."""
        feature = self.pairs.feature[some]
        a = self.pairs.coefficient[some, None].to(self.final.dtype)
        norm, s = self.final.norm, streams.scale[stream, None]
        if norm is None:
            return _Rows(stream, feature, torch.zeros_like(a), a)
        r, moved = streams.centred[stream], a * self.centred[feature]
        less = (moved * (moved - 2 * r)).mean(1, keepdim=True)  # s'^2 - s^2
        without = ((r - moved).pow(2).mean(1, keepdim=True) + norm.eps).sqrt()
        return _Rows(stream, feature, less / (without * (without + s)), a / without)

    # -- pairs -----------------------------------------------------------------------------------

    def _fill(
        self, streams: _Streams, rows: _Rows, rule: _Rule, out: Int64[Tensor, "row"], found: Changes
    ) -> None:
        """What is found of some pairs."""
        high, low, sums = list[Tensor](), list[Tensor](), list[Tensor]()
        top, total = streams.top[rows.stream], streams.total[rows.stream]
        for start in range(0, self.final.n_tokens, TOKENS):
            some = slice(start, start + TOKENS)
            M = streams.M[:, some].index_select(0, rows.stream)
            E = self.effects[:, some].index_select(0, rows.feature)
            change, after = self._without(rows, M, E, some)
            high += _extremes(change, torch.amax)
            low += _extremes(change, torch.amin)
            sums.append(rule.part(change, after.sub_(top[:, None]) if self.final.cap else after))
        ratio = rule.whole(torch.stack(sums), total)
        raised, lowered = self._among(torch.cat(high, 1)), self._among(-torch.cat(low, 1))
        token = self.pairs.token[out][:, None]
        ids, at = torch.cat([raised, lowered, token], 1), rows.stream[:, None]
        near = ids.clamp(min=0)
        M, E = streams.M[at, near], self.effects[rows.feature[:, None], near]
        found.before[out] = self._logits(M[:, -1:], token)[:, 0] - top - total
        change, _ = self._without(rows, M, E, near)
        gain = (ratio[:, None] - change).split([raised.shape[1], lowered.shape[1], 1], 1)
        found.direct[out] = gain[2][:, 0]
        for tokens, own, value, sign in (
            (found.hurt, raised, gain[0], -1),
            (found.helped, lowered, gain[1], 1),
        ):
            tokens.ids[out], tokens.values[out] = _first(own, value, self.k, sign)

    def _without(
        self,
        rows: _Rows,
        M: Float[Tensor, "row some"],
        E: Float[Tensor, "row some"],
        which: slice | Int64[Tensor, "row some"],
    ) -> tuple[Float[Tensor, "row some"], Float[Tensor, "row some"]]:
        """How logits change without the features, and what they become; uses up M and E."""
        change = E.mul_(-rows.v).addcmul_(M, rows.u, value=-1)
        if self.final.cap is None:
            after = M if self.bias is None else M.add_(self.bias[which])
            return change, after.add_(change)
        before, after = self._logits(M, which), self._logits(M + change, which)
        return after - before, after

    def _among(self, extremes: Float[Tensor, "row block"]) -> Int64[Tensor, "row some"]:
        """The tokens of the blocks with the largest extremes; -1 for none."""
        k = min(self.k, extremes.shape[1])
        return self.blocks[extremes.topk(k, 1).indices].flatten(1)


# -- sums over the vocabulary ----------------------------------------------------------------------


class _Rule(NamedTuple):
    """How the log of the sum of exp of the logits changes, by parts of the vocabulary."""

    part: Callable[[Tensor, Tensor], Tensor]
    whole: Callable[[Tensor, Tensor], Tensor]


_PLAIN = _Rule(
    lambda change, after: after.exp_().sum(1), lambda sums, total: sums.sum(0).log() - total
)
_SMALL = _Rule(  # which is exact where little changes
    lambda change, after: (torch.exp(after - change) * change.expm1()).sum(1),
    lambda sums, total: (sums.sum(0) / total.exp()).log1p(),
)
_LARGE = _Rule(  # where exp would overflow
    lambda change, after: after.logsumexp(1), lambda sums, total: sums.logsumexp(0) - total
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


def _first(
    ids: Int64[Tensor, "row some"], values: Float[Tensor, "row some"], k: int, sign: int
) -> tuple[Int64[Tensor, "row k"], Float[Tensor, "row k"]]:
    """The k largest, or the smallest for a sign of -1, ties by the lower id."""
    there = (sign * values).masked_fill(ids < 0, -torch.inf)
    best, places = there.topk(k, 1)
    chosen, order = ids.gather(1, places).sort(1)
    best, by = best.gather(1, order).sort(dim=1, descending=True, stable=True)
    return chosen.gather(1, by), sign * best
