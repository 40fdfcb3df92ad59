"""For each row of one matrix its nearest rows in another, over all pairs, block by block.

Pairs that have a place in common come from a sparse product. All others stand at
-apart_i apart_j, and are looked at only for those rows that have too few pairs above that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from sae_circuits.features.measures import MEASURES, Measure, Moments
from sae_circuits.features.numerics.sparse import Pairs, Rows, gathered, pairs
from sae_circuits.progress import track

CELLS = 2**21  # pairs held at a time
AT_ONCE = 2**23
"""How many activations of either side are held at a time, unless another number is asked for."""
PAIR_BYTES = 256  # what is needed for each activation that is held at a time


def at_once_in(memory: int) -> int:
    """How many activations can be held at a time in so many bytes."""
    return max(1 << 16, memory // PAIR_BYTES)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Rows on the right that are nearest to rows on the left.

    Args:
        feature: on the left.
        other: on the right.
        value: of the measure.
        together: in how many places both are not 0.
    """

    feature: Int64[np.ndarray, "listed"]
    other: Int64[np.ndarray, "listed"]
    value: Float64[np.ndarray, "listed"]
    together: Int64[np.ndarray, "listed"]

    def __len__(self) -> int:
        return len(self.feature)

    def __getitem__(self, some: Int64[np.ndarray, "some"]) -> Neighbours:
        return Neighbours(*(getattr(self, f.name)[some] for f in fields(self)))


def k_largest(
    values: Float64[np.ndarray, "n"], ids: Int64[np.ndarray, "n"], k: int
) -> Int64[np.ndarray, "some"]:
    """Where the k largest stand, the largest first, ties by id; none that is -inf.

    >>> k_largest(np.array([1.0, 3.0, -np.inf, 3.0]), np.array([5, 9, 0, 2]), 3).tolist()
    [3, 1, 0]
    """
    some = np.arange(len(values))
    if len(values) > k:
        kth = np.partition(values, len(values) - k)[len(values) - k]
        above, level = np.flatnonzero(values > kth), np.flatnonzero(values == kth)
        lacking = k - len(above)
        if len(level) > lacking:
            level = level[np.argpartition(ids[level], lacking - 1)[:lacking]]
        some = np.concatenate([above, level])
    some = some[values[some] > -np.inf]
    return some[np.lexsort((ids[some], -values[some]))]


def nearest(
    left: Iterable[Rows],
    right: Callable[[], Iterable[Rows]],
    measures: Sequence[str],
    *,
    k: int,
    n: int,
    same: bool,
    at_once: int = AT_ONCE,
) -> Iterator[dict[str, Neighbours]]:
    """For one group of rows after the other, the k nearest of each row by each measure.

    The numbers are the same however rows are grouped. Memory is bounded by `at_once`.

    Args:
        left: rows, in the order in which they are to come out.
        right: a function that gives all rows on the right, anew at each call.
        n: how many places there are in all, over which means are taken.
        same: left and right are the same features, so that none is its own neighbour.
        at_once: how many numbers of either side are held at a time.
    """
    for rows in gathered(left, at_once):
        found: dict[str, list[Neighbours]] = {name: [] for name in measures}
        own = {name: MEASURES[name].moments(rows, n) for name in measures}
        for others in gathered(right(), at_once):
            for name, some in _of_pieces(rows, others, own, k, n, same):
                found[name].append(some)
        yield {name: _best(rows.features, parts, k) for name, parts in found.items()}


def _of_pieces(
    left: Rows, right: Rows, of_left: Mapping[str, Moments], k: int, n: int, same: bool
) -> Iterator[tuple[str, Neighbours]]:
    """The nearest among the rows of one piece, tile by tile."""
    of_right = {name: MEASURES[name].moments(right, n) for name in of_left}
    step = max(1, CELLS // max(1, len(right)))
    for first in track(range(0, len(left), step), description="neighbours"):
        some = slice(first, first + step)
        tile = _Tile(left[some], right, pairs(left[some], right), same)
        for name, moments in of_right.items():
            yield name, tile.best(MEASURES[name], of_left[name][some], moments, k)


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some rows on the left against a piece of the right."""

    left: Rows
    right: Rows
    pairs: Pairs
    same: bool

    @cached_property
    def other(self) -> Int64[np.ndarray, "pair"]:
        """The right feature of each pair."""
        return self.right.features[self.pairs.right]

    @cached_property
    def itself(self) -> Int64[np.ndarray, "some"]:
        """The pairs of a feature with itself."""
        mine = self.pairs.of_left(self.left.features) == self.other
        return np.flatnonzero(mine & self.same)

    def best(self, measure: Measure, a: Moments, b: Moments, k: int) -> Neighbours:
        """The k nearest of each row on the left."""
        values = measure.values(self.pairs, a, b)
        values[self.itself] = -np.inf
        if not b.defined.all():
            values[~b.defined[self.pairs.right]] = -np.inf
        kth = _kth_largest(values, self.pairs.starts, k)
        whole = np.diff(self.pairs.starts) == len(self.right)  # nothing stands apart
        enough = whole | (kth > _limits(a, b))
        found = [self._among_pairs(values, np.where(enough & a.defined, kth, np.inf), k)]
        for row in np.flatnonzero(~enough & a.defined).tolist():
            every = self._all_of_row(row, values, a, b)
            found.append(every[k_largest(every.value, every.other, k)])
        return _joined(found)

    def _among_pairs(
        self, values: Float64[np.ndarray, "pair"], least: Float64[np.ndarray, "row"], k: int
    ) -> Neighbours:
        """Each row's k largest of its pairs' values that are not below a least one."""
        near = np.flatnonzero((values >= self.pairs.of_left(least)) & (values > -np.inf))
        owner = np.searchsorted(self.pairs.starts, near, side="right") - 1
        order = np.lexsort((self.other[near], -values[near], owner))
        order = order[rank_of(owner[order]) <= k]
        near, owner = near[order], owner[order]
        mine, together = self.left.features[owner], self.pairs.together[near]
        return Neighbours(mine, self.other[near], values[near], together)

    def _all_of_row(
        self, row: int, values: Float64[np.ndarray, "pair"], a: Moments, b: Moments
    ) -> Neighbours:
        """All rows on the right, with one left row's measure: those that stand apart too."""
        every = np.where(b.defined, 0.0 - a.apart[row] * b.apart, -np.inf)
        mine = np.full(len(every), self.left.features[row])
        every[(self.right.features == mine) & self.same] = -np.inf
        together = np.zeros(len(every), dtype=np.int64)
        here = slice(self.pairs.starts[row], self.pairs.starts[row + 1])
        every[self.pairs.right[here]] = values[here]
        together[self.pairs.right[here]] = self.pairs.together[here]
        return Neighbours(mine, self.right.features, every, together)


def _kth_largest(
    values: Float64[np.ndarray, "pair"], starts: Int64[np.ndarray, "bound"], k: int
) -> Float64[np.ndarray, "row"]:
    """Each row's k-th largest value; -inf where it has fewer."""
    counts = np.diff(starts)
    if len(counts) and (counts == counts[0]).all():
        table = values.reshape(len(counts), counts[0])
        return np.partition(table, -k, axis=1)[:, -k] if counts[0] >= k else _none(len(counts))
    found = _none(len(counts))
    for row in np.flatnonzero(counts >= k).tolist():
        found[row] = np.partition(values[starts[row] : starts[row + 1]], -k)[-k]
    return found


def _none(n: int) -> Float64[np.ndarray, "row"]:
    return np.full(n, -np.inf)


def _limits(a: Moments, b: Moments) -> Float64[np.ndarray, "row"]:
    """For each row on the left, the most that one on the right can have that stands apart."""
    apart = np.append(b.apart[b.defined], 0.0)
    return np.maximum(0.0 - a.apart * apart.min(), 0.0 - a.apart * apart.max())


def _best(
    features: Int64[np.ndarray, "feature"], parts: Sequence[Neighbours], k: int
) -> Neighbours:
    """The k nearest of each feature among what several pieces have, in the features' order."""
    every = _joined(parts)
    place = np.argsort(features)
    row = place[np.searchsorted(features, every.feature, sorter=place)]
    every = every[np.lexsort((every.other, -every.value, row))]
    return every[np.flatnonzero(rank_of(every.feature) <= k)]


def rank_of(feature: Int64[np.ndarray, "listed"]) -> Int64[np.ndarray, "listed"]:
    """The rank of each of a list's rows, from 1, where those of a feature stand together.

    >>> rank_of(np.array([7, 7, 7, 2, 2])).tolist()
    [1, 2, 3, 1, 2]
    """
    new = np.append(True, feature[1:] != feature[:-1])[: len(feature)]
    starts = np.flatnonzero(new)
    return np.arange(len(feature)) - np.repeat(starts, np.diff(np.append(starts, len(feature)))) + 1


def _joined(parts: Sequence[Neighbours]) -> Neighbours:
    """One list after the other."""
    none = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, int)
    lists = [none, *([getattr(part, f.name) for f in fields(part)] for part in parts)]
    return Neighbours(*map(np.concatenate, zip(*lists, strict=True)))
