"""Activations of some prompts in a row, sorted by feature, then by token; in memory or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from sae_circuits.disk.arrays import Arrays


@dataclass(frozen=True, eq=False)
class Stretch:
    """What features do on some prompts in a row.

    Args:
        first: of the prompts.
        stop: after the last of them.
        arrays: `starts`, where each feature's activations begin, and at last their number, int64;
            `places` from the first prompt's first token on, int32, rising within a feature;
            `values`, float32; and `outliers`, places of tokens that do not count for their norm.
    """

    first: int
    stop: int
    arrays: Arrays | Mapping[str, np.ndarray]

    @property
    def outliers(self) -> Int32[np.ndarray, "outlier"]:
        """Places of tokens whose norm is too large, from the first prompt's first token on."""
        return self.arrays["outliers"]

    @property
    def counts(self) -> Int64[np.ndarray, "feature"]:
        """How many activations each feature has."""
        return np.diff(self.arrays["starts"])

    def bounds(
        self, features: Int64[np.ndarray, "feature"]
    ) -> tuple[Int64[np.ndarray, "feature"], Int64[np.ndarray, "feature"]]:
        """Where the activations of some features begin, and how many each has."""
        if not len(features):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        low, high = int(features.min()), int(features.max())
        starts = self.part("starts", low, high + 2)
        at = features - low
        return starts[at], starts[at + 1] - starts[at]

    def part(self, name: str, start: int, stop: int) -> np.ndarray:
        """Some of the entries of an array."""
        if isinstance(self.arrays, Arrays):
            return self.arrays.part(name, start, stop)
        return self.arrays[name][start:stop]


def by_feature(
    n_features: int,
    places: Int32[np.ndarray, "active"],
    features: Int32[np.ndarray, "active"],
    values: Float32[np.ndarray, "active"],
    outliers: Int32[np.ndarray, "outlier"],
) -> dict[str, np.ndarray]:
    """The arrays of a stretch, of activations that are in the order of their tokens."""
    order = stable_order(features, n_features)
    starts = _starts(np.bincount(features, minlength=n_features))
    sorted_by = {"places": places[order], "values": values[order]}
    return {"starts": starts, **sorted_by, "outliers": outliers}


def joined(parts: Sequence[Arrays | Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of a stretch, of those of its parts, whose places count from the same token.

    Args:
        parts: of prompts in a row, one after the other; those on disk are read one at a time.
    """
    starts = _starts(np.sum([np.diff(part["starts"]) for part in parts], 0))
    found = {
        "starts": starts,
        "places": np.empty(starts[-1], dtype=np.int32),
        "values": np.empty(starts[-1], dtype=np.float32),
        "outliers": np.concatenate([part["outliers"] for part in parts]),
    }
    at = starts[:-1].copy()
    for part in parts:
        n = np.diff(part["starts"])
        into = ranges(at, n)
        for name in ("places", "values"):
            found[name][into] = part[name]
        at += n
    return found


def _starts(counts: Int64[np.ndarray, "feature"]) -> Int64[np.ndarray, "end"]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def stable_order(
    features: Int32[np.ndarray, "active"], n_features: int
) -> Int64[np.ndarray, "active"]:
    """The order that sorts by feature, and leaves activations of one as they are."""
    short = n_features <= 1 << 16  # numpy sorts 16 bits by counting
    return np.argsort(features.astype(np.uint16) if short else features, kind="stable")


def ranges(
    starts: Int64[np.ndarray, "range"], counts: Int64[np.ndarray, "range"]
) -> Int64[np.ndarray, "index"]:
    """The indices of several ranges, one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - counts), counts)
