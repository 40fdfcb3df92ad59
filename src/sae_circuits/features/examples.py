"""Which tokens to show of a feature: the largest activations, and draws from each range of them.

An example is a token with the tokens around it, its window. Windows of one group never overlap, and
of windows with the same tokens one is shown, with how often the feature is active at such a one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from sae_circuits.errors import OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.statistics import group_bounds

DRAWS = 4  # as many are drawn from a group for each example that is wanted, since some overlap


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
            total[there] += _mixed(tokens[there + shift]) * (factor | np.uint64(1))
        return total


def _mixed(x: UInt64[np.ndarray, "some"]) -> UInt64[np.ndarray, "some"]:
    """Numbers spread over 64 bits (the finaliser of SplitMix64), so that sums seldom collide."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Wanted:
    """How many examples to keep of each feature.

    Args:
        top: of the largest activations.
        intervals: equal ranges of activations to draw from.
        quantiles: groups of equal count to draw from.
        each: how many to draw from each range and group.
        seed: with the feature's id it decides what is drawn.

    Raises:
        OptionError: below 0.
    """

    top: int = 20
    intervals: int = 5
    quantiles: int = 5
    each: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "intervals", "quantiles", "each", "seed"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name}={getattr(self, name)}: give 0 or more")


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of the features of a block, group by group; the first of a group comes first."""

    feature: Int64[np.ndarray, "example"]
    group: Sequence[str]
    index: Int64[np.ndarray, "example"]
    rank: Int64[np.ndarray, "example"]
    place: Int64[np.ndarray, "example"]
    activation: np.ndarray
    times: Int64[np.ndarray, "example"]


def examples(
    columns: Columns,
    order: Int64[np.ndarray, "active"],
    edges: np.ndarray,
    corpus: Corpus,
    windows: Windows,
    hashes: UInt64[np.ndarray, "token"],
    wanted: Wanted,
) -> Examples:
    """Examples of every feature of a block.

    Args:
        order: in which each feature's values rise: see `by_rank`.
        edges: of the intervals to draw from, for each feature.
        hashes: of the windows at all places.
    """
    prompts, _ = corpus.locate(columns.places)
    rows: list[tuple[int, str, int, int, int, float, int]] = []
    for i, feature in enumerate(columns.features.tolist()):
        some = slice(columns.starts[i], columns.starts[i + 1])
        if some.start == some.stop:
            continue
        one = _One(
            columns.places[some], columns.values[some], prompts[some],
            hashes[columns.places[some]], order[some] - columns.starts[i], windows,
        )  # fmt: skip
        for group, index, ids in one.groups(feature, edges[i], wanted):
            for rank, k in enumerate(ids):
                place, value = int(one.places[k]), float(one.values[k])
                rows.append((feature, group, index, rank, place, value, one.times(k)))
    feature, group, index, rank, place, value, times = zip(*rows, strict=True) if rows else [()] * 7
    whole = [np.array(x, dtype=np.int64) for x in (feature, index, rank, place, times)]
    return Examples(
        whole[0], group, whole[1], whole[2], whole[3], np.array(value, dtype=np.float32), whole[4]
    )


def activations_at(
    columns: Columns, owner: Int64[np.ndarray, "some"], places: Int64[np.ndarray, "some"]
) -> Float32[np.ndarray, "some"]:
    """What some columns hold at some places, 0 where they hold nothing."""
    found = np.zeros(len(places), dtype=np.float32)
    if not len(columns.places):
        return found
    span = int(max(columns.places.max(), places.max(initial=0))) + 1
    keys, asked = columns.owner * span + columns.places, owner * span + places
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    there = keys[at] == asked
    found[there] = columns.values[at[there]]
    return found


@dataclass(frozen=True, eq=False)
class _One:
    """One feature's activations; `order` sorts them by value."""

    places: Int64[np.ndarray, "active"]
    values: np.ndarray
    prompts: Int64[np.ndarray, "active"]
    hashes: UInt64[np.ndarray, "active"]
    order: Int64[np.ndarray, "active"]
    windows: Windows

    def groups(
        self, feature: int, edges: np.ndarray, wanted: Wanted
    ) -> Iterator[tuple[str, int, list[int]]]:
        """Every group's name, its number and its examples."""
        yield "top", 0, self._apart(self._from_top(), wanted.top)
        ranked = self.values[self.order].astype(np.float64)
        inner = np.searchsorted(ranked, edges[1:-1], side="right")
        cuts = {
            "interval": np.concatenate([[0], inner, [len(ranked)]]),
            "quantile": group_bounds(np.array([len(ranked)]), wanted.quantiles)[0]
            if wanted.quantiles
            else np.zeros(1, dtype=np.int64),
        }
        rng = np.random.default_rng([wanted.seed, feature])
        for name, bounds in cuts.items():
            for index, (low, high) in enumerate(pairwise(bounds.tolist())):
                drawn = self._drawn(rng, low, high, wanted.each)
                yield name, index, self._apart(drawn, wanted.each)

    def times(self, k: int) -> int:
        """How often the feature is active at the same window."""
        return int((self.hashes == self.hashes[k]).sum())

    def _from_top(self) -> Iterator[int]:
        """From the largest value on, equal ones by their place."""
        ranked = self.values[self.order]
        stop = len(ranked)
        while stop:
            start = int(np.searchsorted(ranked, ranked[stop - 1], side="left"))
            yield from self.order[start:stop].tolist()
            stop = start

    def _drawn(self, rng: np.random.Generator, low: int, high: int, n: int) -> Iterator[int]:
        """Draws from the ranks of a group, without what was drawn before."""
        if high - low <= DRAWS * n:
            yield from self.order[low + rng.permutation(high - low)].tolist()
            return
        drawn = rng.integers(low, high, DRAWS * n).tolist()
        yield from self.order[list(dict.fromkeys(drawn))].tolist()

    def _apart(self, ids: Iterator[int], n: int) -> list[int]:
        """The first n whose windows neither overlap nor repeat."""
        found: list[int] = []
        seen: set[int] = set()
        if not n:
            return found
        for k in ids:
            window = int(self.hashes[k])
            if window in seen:
                continue
            if any(
                self.prompts[k] == self.prompts[j]
                and abs(int(self.places[k]) - int(self.places[j])) < self.windows.size
                for j in found
            ):
                continue
            seen.add(window)
            found.append(k)
            if len(found) == n:
                break
        return found
