"""What log probabilities become when features' own directions are taken from final streams.

With r a final stream, s the scale that the final norm divides it by, g its gain, b all that is
constant in the logits, and a d what a feature adds (a its coefficient, d its direction), the logits
with it and without it are, before a cap,

    L = M + b,    M = (g r / s) W_U
    L' = (s / s') M - (a / s') E + b,    E = (g d) W_U,    s' the scale of r - a d

with r and d centred where the norm centres. So one product with the unembedding is enough for a
stream, and one for a feature; what remains is elementwise. Their difference is taken as such, so
that it is exact for a small activation too:

    L - L' = u M + (a / s') E = v y,    v = a / s',    y = E + w M
    w = u / v,    u = 1 - s / s' = (s'^2 - s^2) / (s' (s' + s))

A constant may be added to a row of M: it drops out of all probabilities. Each feature is worked on
by itself, so that its numbers do not hang on the others.

The tokens that are helped and hurt most are those at the ends of y. To look at all of them costs as
much as the sums, and as a rule the ends of y lie among those of E, which are found once for a
feature: only where another token could be further out are all looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.vocabulary import (
    LIKELY,
    Likely,
    Rule,
    Tokens,
    by_difference,
    by_exp,
    by_logs,
    extreme_tokens,
    ordered,
)

HELD = 1 << 22  # logits that are held at a time
ROOM = 1 << 18  # and that are worked on, so that they stay in the cache
SMALL, LARGE = 1e-2, 30.0  # differences of logits; beyond the last one exp may have no room

Ends = tuple[Tensor, Tensor, Tensor, Tensor]  # ids and gains of tokens helped, and of those hurt


@dataclass(frozen=True, eq=False)
class Pairs:
    """Features that are taken from final streams, one from each.

    Args:
        r: the stream of each pair.
        directions: what each feature adds per unit of its coefficient.
        effects: those of the directions on the logits, (g d) W_U, not centred.
        feature: of each pair, rising.
        coefficient: of each pair.
        token: of each pair, whose probability is asked for.
    """

    r: Float[Tensor, "pair d_model"]
    directions: Float[Tensor, "feature d_model"]
    effects: Float[Tensor, "feature vocab"]
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


@torch.no_grad()
def changes(final: Final, pairs: Pairs, k: int) -> Changes:
    """What features do to the log probabilities that follow some final streams.

    Args:
        final: the end of the model.
        k: how many tokens to list that are helped, and hurt.
    """
    work = _Work.of(final, min(k, final.n_tokens))
    d, E = work.kept(pairs.directions, pairs.effects)
    read, v, w = work.scaled(pairs, d)
    features, counts = pairs.feature.unique_consecutive(return_counts=True)
    found, start = [_nothing(pairs, work.k)], 0
    for f, n in zip(features.tolist(), counts.tolist(), strict=True):
        feature = work.feature(E[f])
        for held in _slices(start, start + n, HELD // final.n_tokens):
            M = final.product(read[held])
            for some in _slices(held.start, held.stop, ROOM // final.n_tokens):
                logits = M[some.start - held.start : some.stop - held.start]
                streams = work.streams(logits, v[some], w[some])
                found.append(feature.taken_from(streams, pairs.token[some, None]))
        start += n
    direct, before, *ends = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Changes(direct, before, ordered(ends[0], ends[1], 1), ordered(ends[2], ends[3], -1))


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Parts of a range."""
    for first in range(start, stop, max(size, 1)):
        yield slice(first, min(first + max(size, 1), stop))


def _nothing(pairs: Pairs, k: int) -> tuple[Tensor, ...]:
    """What is found of no pair."""
    none, ids = pairs.effects.new_zeros(0, k), pairs.token.new_zeros(0, k)
    return none[:, 0], none[:, 0], ids, none, ids, none


@dataclass(frozen=True, eq=False)
class _Work:
    """What all features need.

    Args:
        k: how many tokens to list.
        bias: all that is constant in the logits; None for nothing.
        one: what a constant stream makes of the logits, where the norm takes it away.
    """

    final: Final
    k: int
    bias: Float[Tensor, "vocab"] | None
    one: Float[Tensor, "vocab"] | None

    @classmethod
    def of(cls, final: Final, k: int) -> _Work:
        """Of the end of a model."""
        W, norm = final.W_U.to(final.dtype), final.norm
        one = None
        if norm is not None and norm.centres:
            one = final.gained(torch.ones_like(W[:, 0])) @ W
        parts = [final.bias, None if norm is None or norm.bias is None else norm.bias @ W]
        held = [part for part in parts if part is not None and bool(part.any())]
        return cls(final, k, torch.stack(held).sum(0) if held else None, one)

    @property
    def is_steep(self) -> bool:
        """Whether capped logits may be too large for exp."""
        return self.final.cap is not None and self.final.cap > 2 * LARGE

    def kept(
        self, directions: Float[Tensor, "feature d_model"], effects: Float[Tensor, "feature vocab"]
    ) -> tuple[Float[Tensor, "feature d_model"], Float[Tensor, "feature vocab"]]:
        """Directions as the norm keeps them, and the effects of these on the logits."""
        d, E = directions.to(self.final.dtype), effects.to(self.final.dtype)
        if self.one is None:
            return d, E
        mean = d.mean(1, keepdim=True)
        return d - mean, E - mean * self.one

    def scaled(
        self, pairs: Pairs, d: Float[Tensor, "feature d_model"]
    ) -> tuple[Float[Tensor, "pair d_model"], Float[Tensor, "pair 1"], Float[Tensor, "pair 1"]]:
        """What the unembedding reads of each stream, and v and w."""
        norm, r = self.final.norm, pairs.r.to(self.final.dtype)
        a = pairs.coefficient[:, None].to(r.dtype)
        if norm is None:
            return self.final.gained(r), a, torch.zeros_like(a)
        d = d[pairs.feature]
        x, s = norm.normalise(r)
        r = x * s
        less = (d * (a * d - 2 * r)).mean(1, keepdim=True)  # (s'^2 - s^2) / a
        without = ((r - a * d).pow(2).mean(1, keepdim=True) + norm.eps).sqrt()
        return self.final.gained(x), a / without, less / (without + s)

    def streams(
        self, M: Float[Tensor, "row vocab"], v: Float[Tensor, "row 1"], w: Float[Tensor, "row 1"]
    ) -> _Streams:
        """Some streams, of what they make of the logits."""
        logits = self.logits(M)
        top = logits.amax(1, keepdim=True)
        far = top.abs() > LARGE
        if self.final.cap is None and bool(far.any()):
            M = M - torch.where(far, top, 0)  # which drops out
            logits = self.logits(M)
        total = logits.logsumexp(1) if self.is_steep else logits.exp().sum(1).log()
        return _Streams(M, M.amin(1, keepdim=True), M.amax(1, keepdim=True), total, v, w)

    def feature(self, E: Float[Tensor, "vocab"]) -> _Feature:
        """A feature, of the effects of its direction on the logits."""
        few = self.k <= LIKELY and self.final.n_tokens >= 2 * LIKELY and self.final.cap is None
        return _Feature(self, E, E.abs().max(), Likely.of(E) if few else None)

    def logits(
        self, M: Float[Tensor, "row some"], which: slice | Int64[Tensor, "*any some"] = slice(None)
    ) -> Float[Tensor, "row some"]:
        """Of what streams make of some of them."""
        x = M if self.bias is None else M + self.bias[which]
        cap = self.final.cap
        return x if cap is None else torch.tanh(x / cap).mul_(cap)


@dataclass(frozen=True, eq=False)
class _Streams:
    """Some streams, and what it takes to say what a feature does there.

    Args:
        M: what they make of the logits.
        low, high: the least and the largest of M.
        total: log of the sum of exp of the logits.
        v, w: see above.
    """

    M: Float[Tensor, "row vocab"]
    low: Float[Tensor, "row 1"]
    high: Float[Tensor, "row 1"]
    total: Float[Tensor, "row"]
    v: Float[Tensor, "row 1"]
    w: Float[Tensor, "row 1"]

    def some(self, which: Bool[Tensor, "row"]) -> _Streams:
        """A few of them."""
        return _Streams(*(x[which] for x in vars(self).values()))


@dataclass(frozen=True, eq=False)
class _Feature:
    """A feature that is taken from streams.

    Args:
        E: the effects of its direction on the logits, as the norm keeps it.
        highest: the largest of these by size.
        likely: where to look first for what it helps and hurts; None for everywhere.
    """

    work: _Work
    E: Float[Tensor, "vocab"]
    highest: Float[Tensor, ""]
    likely: Likely | None

    def taken_from(self, streams: _Streams, token: Int64[Tensor, "row 1"]) -> tuple[Tensor, ...]:
        """What it does in some streams: see `Changes`."""
        ratio = self._ratio(streams)
        before = self.work.logits(streams.M.gather(1, token), token)[:, 0] - streams.total
        return self._gain(streams, ratio, token)[:, 0], before, *self._ends(streams, ratio)

    def _ratio(self, streams: _Streams) -> Float[Tensor, "row"]:
        """Log of the sum of exp of the logits without the feature, over the sum with it."""
        size = torch.maximum(streams.high, -streams.low)
        moved = streams.v.abs() * self.highest
        small = (streams.v * streams.w).abs() * size + moved < SMALL
        plain = ~(small | (moved > LARGE))[:, 0] & (not self.work.is_steep)
        if bool(plain.all()):
            return self._ratio_of(streams, by_exp)
        found = torch.empty_like(streams.total)
        for which, rule in (
            (plain, by_exp), (small[:, 0], by_difference), (~plain & ~small[:, 0], by_logs),
        ):  # fmt: skip
            found[which] = self._ratio_of(streams.some(which), rule)
        return found

    def _ratio_of(self, streams: _Streams, rule: Rule) -> Float[Tensor, "row"]:
        return rule(streams.v, *self._without(streams, streams.M, self.E), streams.total)

    def _without(
        self,
        streams: _Streams,
        M: Float[Tensor, "row some"],
        E: Float[Tensor, "*row some"],
        which: slice | Int64[Tensor, "*row some"] = slice(None),
    ) -> tuple[Float[Tensor, "row some"], Float[Tensor, "row some"]]:
        """y of L' = L - v y, and L', for some logits."""
        v, final = streams.v, self.work.final
        y = torch.addcmul(E, M, streams.w)
        after = torch.addcmul(M, y, v, value=-1)
        if final.cap is None:
            return y, after if self.work.bias is None else after.add_(self.work.bias[which])
        after = self.work.logits(after, which)
        return (self.work.logits(M, which) - after) / torch.where(v == 0, 1, v), after

    # -- tokens ----------------------------------------------------------------------------------

    def _gain(
        self, streams: _Streams, ratio: Float[Tensor, "row"], ids: Int64[Tensor, "*row some"]
    ) -> Float[Tensor, "row some"]:
        """How much higher it makes the log probabilities of some tokens."""
        M = streams.M[:, ids] if ids.ndim == 1 else streams.M.gather(1, ids)
        y, _ = self._without(streams, M, self.E[ids], ids)
        return streams.v * y + ratio[:, None]

    def _ends(self, streams: _Streams, ratio: Float[Tensor, "row"]) -> Ends:
        """The tokens that are helped most, and those that are hurt most."""
        if self.likely is None:
            return self._among(streams, ratio, self._everywhere(streams))
        ends = self._among(streams, ratio, self.likely.ids)
        open_ = ~self._settled(streams, ratio, ends, self.likely)
        if bool(open_.any()):
            few = streams.some(open_)
            more = self._among(few, ratio[open_], self._everywhere(few))
            for kept, found in zip(ends, more, strict=True):
                kept[open_] = found
        return ends

    def _among(
        self, streams: _Streams, ratio: Float[Tensor, "row"], ids: Int64[Tensor, "*row some"]
    ) -> Ends:
        """The ends of some tokens; -1 is none."""
        most = least = self._gain(streams, ratio, ids.clamp(min=0))
        if ids.ndim == 2:
            most, least = (most.masked_fill(ids < 0, x) for x in (-torch.inf, torch.inf))
        helped, hurt = most.topk(self.work.k, 1), least.topk(self.work.k, 1, largest=False)
        ids = ids.expand(len(most), -1)
        own = (ids.gather(1, some.indices) for some in (helped, hurt))
        return next(own), helped.values, next(own), hurt.values

    def _settled(
        self, streams: _Streams, ratio: Float[Tensor, "row"], ends: Ends, likely: Likely
    ) -> Bool[Tensor, "row"]:
        """In which streams no token but the likely ones can be as far out."""
        M = torch.cat([streams.low, streams.high], 1) * streams.w
        y = torch.cat([likely.low + M.amin(1, True), likely.high + M.amax(1, True)], 1)
        bounds = streams.v * y + ratio[:, None]
        return (ends[1][:, -1] > bounds.amax(1)) & (ends[3][:, -1] < bounds.amin(1))

    def _everywhere(self, streams: _Streams) -> Int64[Tensor, "row some"]:
        """Tokens among which those at both ends are, out of all; -1 for none."""
        return extreme_tokens(self._without(streams, streams.M, self.E)[0], self.work.k)
