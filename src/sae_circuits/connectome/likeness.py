"""In what features are alike: the nearest of each, how alike clusters are, and other samples.

    decoder         cosine of decoder rows
    co-activation   Jaccard, Pearson or cosine of activations over counted tokens
    connections     cosine of profiles: what features hear, and what they drive, with signs

Of a profile, what a feature hears and what it drives are each scaled to length 1 first, so that
weights of two kinds need no common unit. Each kind has its own way to draw another sample: half of
the features, of the prompts, and of the partners at the other end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from sae_circuits.features.asked import columns_of
from sae_circuits.features.columns import Activity, Restricted
from sae_circuits.features.decoders import nearest_decoders
from sae_circuits.features.measures import MEASURES
from sae_circuits.features.nearest import CELLS, Neighbours, nearest
from sae_circuits.features.numerics.sparse import Rows, pairs
from sae_circuits.features.stretches import ranges


@runtime_checkable
class Likeness(Protocol):
    """How alike features are, which are numbered from 0."""

    @property
    def n_features(self) -> int:
        """How many features."""
        ...

    def near(self, k: int) -> Neighbours:
        """The k nearest of each feature."""
        ...

    def within(self, some: Int64[np.ndarray, "some"]) -> Float64[np.ndarray, "some"]:
        """How like each of some features is to the others of them, in the mean."""
        ...

    def half(self, rng: np.random.Generator) -> tuple[Int64[np.ndarray, "left"], Likeness]:
        """Which features are left in another sample, and how alike these are there."""
        ...


@dataclass(frozen=True, eq=False)
class ByDecoder:
    """Cosine of decoder rows.

    Args:
        units: rows of length 1, or of 0: such a feature is like none.
    """

    units: Float64[np.ndarray, "feature d_out"]

    @property
    def n_features(self) -> int:
        """How many features."""
        return len(self.units)

    def near(self, k: int) -> Neighbours:
        """The k nearest of each feature."""
        return nearest_decoders(self.units, self.units, np.arange(len(self.units)), k, same=True)

    def within(self, some: Int64[np.ndarray, "some"]) -> Float64[np.ndarray, "some"]:
        """How like each of some features is to the others of them, in the mean."""
        rows = self.units[some]
        sums = rows @ rows.sum(0) - (rows * rows).sum(1)
        return sums / max(len(some) - 1, 1)

    def half(self, rng: np.random.Generator) -> tuple[Int64[np.ndarray, "left"], Likeness]:
        """Half of the features."""
        n = len(self.units)
        left = np.sort(rng.choice(n, (n + 1) // 2, replace=False))
        return left, ByDecoder(self.units[left])


@dataclass(frozen=True, eq=False)
class ByActivity:
    """A measure of activations.

    Args:
        activity: of a dictionary's features.
        ids: which of them, ascending.
        measure: a name of `MEASURES`.
        at_once: how many activations are held at a time, on either side.
    """

    activity: Activity
    ids: Int64[np.ndarray, "feature"]
    measure: str
    at_once: int

    @property
    def n_features(self) -> int:
        """How many features."""
        return len(self.ids)

    def near(self, k: int) -> Neighbours:
        """The k nearest of each feature."""
        found = _near(self, k, int(self.activity.counted.sum()))
        feature, other = (np.searchsorted(self.ids, x) for x in (found.feature, found.other))
        return replace(found, feature=feature, other=other)

    def rows(self) -> Iterable[Rows]:
        """All features' activations."""
        every = len(self.ids) == self.activity.n_features
        held = columns_of(self.activity, None if every else self.ids)
        return (Rows.of(some, self.activity.corpus.n_tokens) for some in held)

    def within(self, some: Int64[np.ndarray, "some"]) -> Float64[np.ndarray, "some"]:
        """How like each of some features is to the others of them, in the mean."""
        columns = self.activity.columns(self.ids[some])
        rows = Rows.of(columns, self.activity.corpus.n_tokens)
        return _within(rows, self.measure, int(self.activity.counted.sum()))

    def half(self, rng: np.random.Generator) -> tuple[Int64[np.ndarray, "left"], Likeness]:
        """Half of the prompts."""
        starts = self.activity.corpus.starts
        prompts = rng.permutation(len(starts) - 1) < len(starts) // 2
        kept = self.activity.counted & np.repeat(prompts, np.diff(starts))
        return np.arange(len(self.ids)), replace(self, activity=Restricted(self.activity, kept))


@dataclass(frozen=True, eq=False)
class ByConnections:
    """Cosine of profiles.

    Args:
        table: of each feature its weights: from a feature at the place of its number, to one at
            that and the number of names.
        n_names: how many partners there are.
        at_once: how many weights are held at a time, on either side.
    """

    table: Rows
    n_names: int
    at_once: int
    measure: str = "cosine"

    @property
    def n_features(self) -> int:
        """How many features."""
        return len(self.table)

    def near(self, k: int) -> Neighbours:
        """The k nearest of each feature."""
        return _near(self, k, self.table.n_places)

    def rows(self) -> Iterable[Rows]:
        """All profiles, of which each part has length 1."""
        return [self._scaled(self.table)]

    def within(self, some: Int64[np.ndarray, "some"]) -> Float64[np.ndarray, "some"]:
        """How like each of some features is to the others of them, in the mean."""
        counts = self.table.counts[some]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        held = ranges(self.table.starts[some], counts)
        places, values = self.table.places[held], self.table.values[held]
        rows = Rows(np.asarray(some), starts, places, values, self.table.n_places)
        rows = self._scaled(rows)
        lengths = np.sqrt(rows.sums(rows.values**2))
        units = rows.values / lengths[rows.owner]
        total = np.bincount(rows.places, units, minlength=rows.n_places)
        sums = rows.sums(units * total[rows.places]) - (lengths > 0)
        return sums / max(len(some) - 1, 1)

    def half(self, rng: np.random.Generator) -> tuple[Int64[np.ndarray, "left"], Likeness]:
        """Half of the partners."""
        kept = rng.permutation(self.n_names) < (self.n_names + 1) // 2
        table = self.table.where(kept[self.table.places % self.n_names])
        return np.arange(len(self.table)), replace(self, table=table)

    def _scaled(self, rows: Rows) -> Rows:
        part = 2 * rows.owner + (rows.places >= self.n_names)
        lengths = np.sqrt(np.bincount(part, rows.values**2, minlength=2 * len(rows)))
        return replace(rows, values=rows.values / lengths[part])


def _near(of: ByActivity | ByConnections, k: int, n: int) -> Neighbours:
    """The k nearest of each row, with its features' own ids."""
    groups = nearest(
        of.rows(), of.rows, (of.measure,), k=k, n=n, same=True, at_once=of.at_once
    )  # fmt: skip
    every = [group[of.measure] for group in groups]
    columns = ("feature", "other", "value", "together")
    return Neighbours(*(np.concatenate([getattr(x, name) for x in every]) for name in columns))


def _within(rows: Rows, measure: str, n: int) -> Float64[np.ndarray, "row"]:
    """Each row's mean over the others; a pair without a common place stands at -apart_i apart_j."""
    how = MEASURES[measure]
    every = how.moments(rows, n)
    total = every.apart.sum()
    found, step = np.zeros(len(rows)), max(1, CELLS // max(1, len(rows)))
    for first in range(0, len(rows), step):
        some = slice(first, first + step)
        mine, tile = every[some], pairs(rows[some], rows)
        left = tile.of_left(np.arange(len(mine.length)))
        own = left + first == tile.right
        joint = how.values(tile, mine, every) + tile.of_left(mine.apart) * every.apart[tile.right]
        sums = np.bincount(left[~own], joint[~own], minlength=len(mine.length))
        found[some] = sums - mine.apart * (total - mine.apart)
    return found / max(len(rows) - 1, 1)
