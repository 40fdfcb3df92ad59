"""Activations of some features over a corpus, those that are not 0, feature by feature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sae_circuits.features.corpus import Corpus

Some = TypeVar("Some", bound="Columns")


@dataclass(frozen=True, eq=False)
class Columns:
    """Where some features are active, and how much.

    Args:
        features: their ids.
        starts: where each one's activations begin, and at last their number.
        places: of the tokens in the corpus, rising within a feature; counted tokens only.
        values: the activations there, never 0.
    """

    features: Int64[np.ndarray, "feature"]
    starts: Int64[np.ndarray, "bound"]
    places: Int64[np.ndarray, "active"]
    values: Float32[np.ndarray, "active"]

    def __len__(self) -> int:
        return len(self.features)

    @property
    def counts(self) -> Int64[np.ndarray, "feature"]:
        """On how many tokens each is active."""
        return np.diff(self.starts)

    @property
    def owner(self) -> Int64[np.ndarray, "active"]:
        """The column, from 0, that each activation belongs to."""
        return np.repeat(np.arange(len(self)), self.counts)

    def __getitem__(self: Some, some: slice) -> Some:
        """Some features that follow each other."""
        first, stop, _ = some.indices(len(self))
        starts = self.starts[first : max(first, stop) + 1]
        held = slice(starts[0], starts[-1])
        return replace(
            self,
            features=self.features[some],
            starts=starts - starts[0],
            places=self.places[held],
            values=self.values[held],
        )

    def where(self: Some, keep: Bool[np.ndarray, "active"]) -> Some:
        """All features with some of their activations."""
        starts = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)[self.starts]
        return replace(self, starts=starts, places=self.places[keep], values=self.values[keep])

    def column(self, i: int) -> tuple[Int64[np.ndarray, "active"], Float32[np.ndarray, "active"]]:
        """Places and values of one column."""
        some = slice(self.starts[i], self.starts[i + 1])
        return self.places[some], self.values[some]


@runtime_checkable
class Activity(Protocol):
    """What all statistics are made of: a corpus, and features' activations on it."""

    @property
    def corpus(self) -> Corpus:
        """The tokens."""
        ...

    @property
    def counted(self) -> Bool[np.ndarray, "token"]:
        """Which tokens of the corpus count."""
        ...

    @property
    def n_features(self) -> int:
        """How many features there are, active or not."""
        ...

    def columns(self, features: Int64[np.ndarray, "feature"]) -> Columns:
        """Activations of some features, in the order asked for."""
        ...

    def blocks(self) -> Iterator[Columns]:
        """All features in rising order, as many at a time as memory is meant for."""
        ...


@dataclass(frozen=True, eq=False)
class Restricted:
    """Activity of which fewer tokens count.

    Args:
        whole: the activity.
        counted: which tokens count, all of which count there.
    """

    whole: Activity
    counted: Bool[np.ndarray, "token"]

    def __getattr__(self, name: str) -> Any:
        """All else is as it is there."""
        return getattr(self.whole, name)

    @property
    def corpus(self) -> Corpus:
        """The tokens."""
        return self.whole.corpus

    @property
    def n_features(self) -> int:
        """How many features there are, active or not."""
        return self.whole.n_features

    def columns(self, features: Int64[np.ndarray, "feature"]) -> Columns:
        """Activations of some features, in the order asked for."""
        return self._of(self.whole.columns(features))

    def blocks(self) -> Iterator[Columns]:
        """All features in rising order."""
        return map(self._of, self.whole.blocks())

    def _of(self, columns: Columns) -> Columns:
        return columns.where(self.counted[columns.places])
