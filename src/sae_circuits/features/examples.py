"""Which tokens to show of a feature: the largest activations, and draws from all and from ranges.

An example is a token with the tokens around it, its window. Windows of one group never overlap, and
of windows with the same tokens one is shown, with how often the feature is active at such a one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt64

from sae_circuits.errors import OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.statistics import group_bounds

DRAWS = 4  # candidates for each example that is wanted, since the windows of some overlap


@dataclass(frozen=True)
class Windows:
    """The tokens around a token.

    Args:
        before: tokens before it, as far as the prompt goes.
        after: tokens after it.

    Raises:
        OptionError: below 0.
    """

    before: int = 12
    after: int = 4

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name}={getattr(self, name)}: a window has 0 tokens or more")

    @property
    def size(self) -> int:
        """Tokens of a window that no end of a prompt cuts."""
        return self.before + 1 + self.after

    def spans(
        self, corpus: Corpus, places: Int64[np.ndarray, "some"]
    ) -> tuple[Int64[np.ndarray, "some"], Int64[np.ndarray, "some"]]:
        """The places where windows begin, and where they end."""
        prompts, _ = corpus.locate(places)
        first, stop = corpus.starts[prompts], corpus.starts[prompts + 1]
        return np.maximum(first, places - self.before), np.minimum(stop, places + self.after + 1)

    def hashes(self, corpus: Corpus) -> UInt64[np.ndarray, "token"]:
        """A number for the window at each place, the same where its tokens are the same."""
        n = corpus.n_tokens
        tokens = corpus.tokens.astype(np.uint64) + np.uint64(1)
        room = corpus.starts[1:] - corpus.starts[:-1] - 1
        left = np.repeat(room, np.diff(corpus.starts)) - corpus.positions  # after it in its prompt
        total = np.zeros(n, dtype=np.uint64)
        factors = np.random.default_rng(0).integers(1, 1 << 63, self.size, dtype=np.uint64)
        for shift, factor in zip(range(-self.before, self.after + 1), factors, strict=True):
            inside = corpus.positions >= -shift if shift < 0 else left >= shift
            there = np.flatnonzero(inside)
            total[there] += mixed(tokens[there + shift]) * (factor | np.uint64(1))
        return total


@dataclass(frozen=True)
class Wanted:
    """How many examples to keep of each feature.

    Args:
        top: of the largest activations.
        intervals: equal ranges of activations to draw from.
        quantiles: groups of equal count to draw from.
        each: how many to draw from each range and group.
        random: to draw from all tokens on which it is active, each as likely as any other.
        seed: with the feature's id it decides what is drawn.

    Raises:
        OptionError: below 0.
    """

    top: int = 20
    intervals: int = 5
    quantiles: int = 5
    each: int = 5
    random: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "intervals", "quantiles", "each", "random", "seed"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name}={getattr(self, name)}: give 0 or more")


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of a block's features, one after the other, and of each group by group.

    `which` is the index of each in the block's columns.
    """

    feature: Int64[np.ndarray, "example"]
    group: Sequence[str]
    index: Int64[np.ndarray, "example"]
    rank: Int64[np.ndarray, "example"]
    which: Int64[np.ndarray, "example"]
    place: Int64[np.ndarray, "example"]
    activation: Float32[np.ndarray, "example"]
    times: Int64[np.ndarray, "example"]


def examples(
    columns: Columns,
    order: Int64[np.ndarray, "active"],
    counts: Int64[np.ndarray, "feature interval"],
    corpus: Corpus,
    windows: Windows,
    hashes: UInt64[np.ndarray, "token"],
    wanted: Wanted,
) -> Examples:
    """Examples of every feature of a block, all features at a time.

    Args:
        order: in which each feature's values fall: see `by_rank`.
        counts: of the intervals to draw from.
        hashes: of the windows at all places.
    """
    choice = _Choice(columns, order, corpus, windows, hashes)
    parts = [("top", 0, choice.top(wanted.top))]
    n = columns.counts[:, None]
    bounds = {
        "interval": np.concatenate([0 * n, counts.cumsum(1)], 1) if wanted.intervals else 0 * n,
        "quantile": group_bounds(columns.counts, wanted.quantiles) if wanted.quantiles else 0 * n,
    }
    for salt, (kind, ranks) in enumerate(bounds.items()):
        for group in range(ranks.shape[1] - 1):
            key = (wanted.seed, salt, group)
            drawn = choice.drawn(ranks[:, group], ranks[:, group + 1], wanted.each, key)
            parts.append((kind, group, choice.apart(drawn, wanted.each)))
    drawn = choice.drawn(0 * n[:, 0], n[:, 0], wanted.random, (wanted.seed, len(bounds), 0))
    parts.append(("random", 0, choice.apart(drawn, wanted.random)))
    return choice.listed(parts)


@dataclass(frozen=True, eq=False)
class _Choice:
    """Which of a block's activations to show; they go by their index in the block, -1 for none."""

    columns: Columns
    order: Int64[np.ndarray, "active"]
    corpus: Corpus
    windows: Windows
    hashes: UInt64[np.ndarray, "token"]

    def top(self, n: int) -> Int64[np.ndarray, "feature n"]:
        """The largest ones whose windows neither overlap nor repeat."""
        starts, counts = self.columns.starts[:-1, None], self.columns.counts[:, None]
        several = np.arange(DRAWS * n)[None]
        first = np.where(several < counts, starts + several, -1)
        found = self.apart(self._ordered(first), n)
        short = (found == -1).any(1) & (counts[:, 0] > DRAWS * n)
        for i in np.flatnonzero(short):
            found[i] = self._one_by_one(
                self.order[self.columns.starts[i] : self.columns.starts[i + 1]], n
            )
        return found

    def _one_by_one(self, left: Int64[np.ndarray, "candidate"], n: int) -> Int64[np.ndarray, "n"]:
        """`apart` for one feature of many candidates: whatever clashes with one taken goes."""
        found = np.full(n, -1, dtype=np.int64)
        for i in range(n):
            if not len(left):
                break
            taken = left[:1]
            found[i] = taken[0]
            near = np.abs(self.columns.places[left] - self.columns.places[taken])
            clash = (near < self.windows.size) & (self._prompt(left) == self._prompt(taken))
            left = left[~(clash | (self.window[left] == self.window[taken]))]
        return found

    def drawn(
        self,
        low: Int64[np.ndarray, "feature"],
        high: Int64[np.ndarray, "feature"],
        n: int,
        key: tuple[int, int, int],
    ) -> Int64[np.ndarray, "feature draw"]:
        """Draws from ranks (from the smallest value on), by a hash of the key and the feature."""
        size, several = (high - low)[:, None], np.arange(DRAWS * n)
        said = np.array(key, dtype=np.uint64) @ np.array([3, 5, 7], dtype=np.uint64)
        seeds = mixed(self.columns.features.astype(np.uint64) + mixed(said[None]))
        random = mixed(seeds[:, None] + several.astype(np.uint64))
        few = np.where(several < size, random, np.uint64(2**64 - 1)).argsort(1, kind="stable")
        many = (random % np.maximum(size, 1).astype(np.uint64)).astype(np.int64)
        rank = low[:, None] + np.where(size <= len(several), few, many)
        last = self.columns.starts[1:, None] - 1
        return self._ordered(np.where(several < size, last - rank, -1))

    def apart(
        self, ids: Int64[np.ndarray, "feature candidate"], n: int
    ) -> Int64[np.ndarray, "feature n"]:
        """The first n of each row whose windows neither overlap nor repeat."""
        found = np.full((len(ids), n), -1, dtype=np.int64)
        taken = np.zeros(len(ids), dtype=np.int64)
        for column in ids.T:
            rows = np.flatnonzero((column >= 0) & (taken < n))
            k, others = column[rows, None], found[rows]
            near = np.abs(self.columns.places[k] - self.columns.places[others]) < self.windows.size
            near &= self._prompt(k) == self._prompt(others)
            clash = (others >= 0) & (near | (self.window[k] == self.window[others]))
            free = rows[~clash.any(1)]
            found[free, taken[free]] = column[free]
            taken[free] += 1
        return found

    def listed(self, parts: Sequence[tuple[str, int, np.ndarray]]) -> Examples:
        """A row for each example."""
        kinds, groups, owners, ranks, ids = [], [], [], [], []
        for kind, group, found in parts:
            owner, rank = np.nonzero(found >= 0)
            kinds += [kind] * len(owner)
            groups.append(np.full(len(owner), group))
            owners.append(owner)
            ranks.append(rank)
            ids.append(found[owner, rank])
        order = np.argsort(np.concatenate(owners), kind="stable")
        owner, k = np.concatenate(owners)[order], np.concatenate(ids)[order]
        return Examples(
            self.columns.features[owner],
            [kinds[i] for i in order.tolist()],
            np.concatenate(groups)[order],
            np.concatenate(ranks)[order],
            k,
            self.columns.places[k],
            self.columns.values[k],
            self._times(owner, k),
        )

    def _times(
        self, owner: Int64[np.ndarray, "example"], ids: Int64[np.ndarray, "example"]
    ) -> Int64[np.ndarray, "example"]:
        """How often each one's feature is active at the same window."""
        salts = mixed(np.arange(len(self.columns), dtype=np.uint64))
        every = np.sort(self.window + salts[self.columns.owner])
        asked, back = np.unique(self.window[ids] + salts[owner], return_inverse=True)
        first, stop = (np.searchsorted(every, asked, side) for side in ("left", "right"))
        return (stop - first)[back]  # rising ones are found in a fraction of the time

    def _ordered(self, at: Int64[np.ndarray, "*some"]) -> Int64[np.ndarray, "*some"]:
        """What stands at some places of the order; -1 stays."""
        return np.where(at >= 0, self.order[at], -1) if len(self.order) else at

    def _prompt(self, ids: Int64[np.ndarray, "*some"]) -> Int32[np.ndarray, "*some"]:
        """The prompt of some activations."""
        return self.corpus.prompts[self.columns.places[ids]]

    @cached_property
    def window(self) -> UInt64[np.ndarray, "active"]:
        """The hash of each one's window."""
        return self.hashes[self.columns.places]


def around(
    columns: Columns,
    ids: Int64[np.ndarray, "example"],
    first: Int64[np.ndarray, "example"],
    stop: Int64[np.ndarray, "example"],
) -> Float32[np.ndarray, "token"]:
    """What a feature does at all tokens of the windows around some of its activations.

    A column's places rise, so that what is active in a window stands beside its own activation.

    Args:
        ids: of the activations, as indices of the block.
        first, stop: the places where each one's window begins and ends.
    """
    ends = np.cumsum(stop - first)
    found = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.float32)
    to = ends - stop  # what turns a place of a window into an index of `found`
    owner = np.searchsorted(columns.starts, ids, side="right") - 1
    for step, end in ((-1, columns.starts[owner] - 1), (1, columns.starts[owner + 1])):
        at, left = ids.copy(), np.arange(len(ids))
        while len(left):
            found[to[left] + columns.places[at]] = columns.values[at]
            at += step
            in_column = at != end[left]
            at, left = at[in_column], left[in_column]
            place = columns.places[at]
            inside = (first[left] <= place) & (place < stop[left])
            at, left = at[inside], left[inside]
    return found


def mixed(x: UInt64[np.ndarray, "*some"]) -> UInt64[np.ndarray, "*some"]:
    """Numbers spread over 64 bits (the finaliser of SplitMix64), so that sums seldom collide."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
