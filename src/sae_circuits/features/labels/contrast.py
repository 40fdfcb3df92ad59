r"""What a feature fires on more than its share: classes of tokens, set against their base rate.

Every token of a corpus is of a class: its id, the one before it, the n-gram that ends with it.
With k_c the tokens of class c on which a feature fires, n_c all of them, A those on which it fires,
and N all tokens, a class counts if the feature fires on it more often than on a token at large, by
more than chance would give in any of the C classes that there are to choose from:

    C exp(-n_c KL(k_c / n_c || A / N)) < 0.05

(the bound of Chernoff and Hoeffding, doi:10.1080/01621459.1963.10500830, for k_c of n_c tokens),

and of these the label takes the few that foretell the feature best, by the harmonic mean of
precision and recall

    F(S) = 2 sum_S k_c / (A + sum_S n_c)

The best S of at most m classes is found exactly: with f = F(S), no other S has
sum_S (2 k_c - f n_c) > f A, so that f grows until it is so (Dinkelbach 1967,
doi:10.1287/mnsc.13.7.492).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.parts import Part

DOUBT = 0.05  # how often a feature that fires at random may get a label
Ints = Int64[np.ndarray, "entry"]


@dataclass(frozen=True, eq=False)
class Choice:
    """The classes chosen for one feature, best first.

    Args:
        column: which feature, from 0 among those asked about.
        groups: the chosen ones.
        hits, sizes: on how many of their tokens the feature fires, and how many they have.
        active: on how many tokens it fires.
        f: the harmonic mean of precision and recall of them all together.
        lift: how many times as often it fires on them as on a token at large.
    """

    column: int
    groups: Int64[np.ndarray, "chosen"]
    hits: Int64[np.ndarray, "chosen"]
    sizes: Int64[np.ndarray, "chosen"]
    active: int
    f: float
    lift: float


@dataclass(frozen=True, eq=False)
class Counts:
    """On how many tokens of a class each feature fires, where it is any: sparse, by column."""

    column: Ints
    group: Ints
    hits: Ints
    sizes: Ints

    def kept(self, mask: Bool[np.ndarray, "entry"]) -> Counts:
        """Some of the entries."""
        return Counts(self.column[mask], self.group[mask], self.hits[mask], self.sizes[mask])


@dataclass(frozen=True, eq=False)
class Contrast:
    """Classes of the tokens of a part.

    Args:
        part: the tokens.
        classes: of every token of the corpus, from 0; -1 where it has none.
        n_classes: how many there are.
        groups: of each class, the group by which it is chosen: variants of one word. A variant
            takes part in its group if the feature fires on it more than its share.
        least: on how many tokens of a class a feature has to fire.
    """

    part: Part
    classes: Int64[np.ndarray, "token"]
    n_classes: int
    groups: Int64[np.ndarray, "class"] | None = None
    least: int = 2

    @cached_property
    def n_tried(self) -> int:
        """How many classes have as many tokens as a feature has to fire on."""
        return max(int((self.totals >= self.least).sum()), 1)

    @cached_property
    def totals(self) -> Int64[np.ndarray, "class"]:
        """How many tokens of the part each class has."""
        some = self.classes[self.part.places]
        return np.bincount(some[some >= 0], minlength=self.n_classes)

    def count(self, columns: Columns) -> Counts:
        """The classes on which some features fire, of the part's tokens."""
        of, owner = self.classes[columns.places], columns.owner
        known = of >= 0
        keys, hits = np.unique(owner[known] * self.n_classes + of[known], return_counts=True)
        column, group = np.divmod(keys, self.n_classes)
        return Counts(column, group, hits.astype(np.int64), self.totals[group])

    def more_than_share(self, columns: Columns, counts: Counts) -> Counts:
        """The classes on which features fire more often than on a token at large."""
        base = columns.counts / len(self.part.places)
        found = by_more_than_chance(counts.hits, counts.sizes, base[counts.column], self.n_tried)
        return counts.kept(found & (counts.hits >= self.least))

    def choose(self, columns: Columns, most: int) -> Iterator[Choice]:
        """For each feature, those at most `most` groups that together foretell it best."""
        counts = self.grouped(self.more_than_share(columns, self.count(columns)))
        active, taken = columns.counts, np.zeros(len(counts.column), dtype=bool)
        f = np.zeros(len(columns))
        for _ in range(50):  # it takes four or five
            better = _best(counts, f, most)
            risen = _f(counts.kept(better), active)
            taken = better
            if (risen <= f).all():
                break
            f = np.maximum(f, risen)
        chosen = counts.kept(taken)
        order = np.lexsort((chosen.group, -chosen.hits, chosen.column))
        edges = np.searchsorted(chosen.column[order], np.arange(len(columns) + 1))
        for i in np.flatnonzero(np.diff(edges)).tolist():
            some = order[edges[i] : edges[i + 1]]
            hits, sizes = chosen.hits[some], chosen.sizes[some]
            lift = hits.sum() / sizes.sum() * len(self.part.places) / active[i]
            one = float(f[i]), float(lift)
            yield Choice(i, chosen.group[some], hits, sizes, int(active[i]), *one)

    def grouped(self, counts: Counts) -> Counts:
        """The same with the variants of one group added up."""
        if self.groups is None or not len(counts.column):
            return counts
        width = int(self.groups.max()) + 1
        keys, at = np.unique(counts.column * width + self.groups[counts.group], return_inverse=True)
        hits, sizes = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        np.add.at(hits, at, counts.hits)
        np.add.at(sizes, at, counts.sizes)
        return Counts(keys // width, keys % width, hits, sizes)


def by_more_than_chance(
    hits: Int64[np.ndarray, "*any"],
    sizes: Int64[np.ndarray, "*any"],
    base: Float64[np.ndarray, "*any"],
    n_tried: int,
) -> Bool[np.ndarray, "*any"]:
    """Whether `hits` of `sizes` tokens is above the base rate for sure, tried so many times.

    >>> hits, sizes = np.array([2, 8, 20]), np.array([20, 20, 20])
    >>> by_more_than_chance(hits, sizes, np.array([0.1, 0.1, 0.1]), 1).tolist()
    [False, True, True]
    """
    share = hits / np.maximum(sizes, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        on = hits * np.log(share / base)
        off = np.where(hits < sizes, (sizes - hits) * np.log((1 - share) / (1 - base)), 0.0)
    return (share > base) & (on + off > np.log(n_tried / DOUBT))


def _best(counts: Counts, f: Float64[np.ndarray, "column"], most: int) -> Bool[np.ndarray, "entry"]:
    """For each column the entries with the largest 2k - fn above 0, at most so many."""
    gain = 2 * counts.hits - f[counts.column] * counts.sizes
    order = np.lexsort((counts.group, -gain, counts.column))
    column = counts.column[order]
    rank = np.arange(len(order)) - np.searchsorted(column, column)
    best = np.zeros(len(order), dtype=bool)
    best[order[(rank < most) & (gain[order] > 0)]] = True
    return best


def _f(counts: Counts, active: Int64[np.ndarray, "column"]) -> Float64[np.ndarray, "column"]:
    n = len(active)
    hits = np.bincount(counts.column, weights=counts.hits, minlength=n)
    sizes = np.bincount(counts.column, weights=counts.sizes, minlength=n)
    return 2 * hits / np.maximum(active + sizes, 1)
