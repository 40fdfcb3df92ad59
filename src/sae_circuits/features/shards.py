"""Activations of some prompts in a row, sorted by feature, then by token; in memory or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64

from sae_circuits.disk.arrays import Arrays, open_arrays, write_arrays
from sae_circuits.errors import StoreError

KIND, SCHEMA = "activations", 1


@dataclass(frozen=True, eq=False)
class Shard:
    """What features do on some prompts.

    Args:
        first: of the prompts.
        stop: after the last of them.
        starts: where each feature's activations begin, and at last their number.
        arrays: `places` from the first prompt's first token on, int32, rising within a feature;
            `values`, float32; and `outliers`, places of tokens that do not count for their norm.
    """

    first: int
    stop: int
    starts: Int64[np.ndarray, "end"]
    arrays: Arrays | dict[str, np.ndarray]

    @property
    def outliers(self) -> Int32[np.ndarray, "outlier"]:
        """Places of tokens whose norm is too large, from the first prompt's first token on."""
        return self.arrays["outliers"]

    def part(self, name: str, start: int, stop: int) -> np.ndarray:
        """Some of the places or values."""
        if isinstance(self.arrays, Arrays):
            return self.arrays.part(name, start, stop)
        return self.arrays[name][start:stop]

    # -- making ----------------------------------------------------------------------------------

    @classmethod
    def of(
        cls,
        first: int,
        stop: int,
        n_features: int,
        places: Int32[np.ndarray, "active"],
        features: Int32[np.ndarray, "active"],
        values: Float32[np.ndarray, "active"],
        outliers: Int32[np.ndarray, "outlier"],
    ) -> Shard:
        """Sort activations that are in the order of their tokens."""
        order = stable_order(features, n_features)
        counts = np.bincount(features, minlength=n_features)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        arrays = {"places": places[order], "values": values[order], "outliers": outliers}
        return cls(first, stop, starts, arrays)

    def save(self, path: Path, identity: str) -> Shard:
        """Write it to a file, and return it as it stands there."""
        record = {"first": self.first, "stop": self.stop, "identity": identity}
        arrays = {name: self.arrays[name] for name in ("places", "values", "outliers")}
        write_arrays(path, KIND, SCHEMA, {**arrays, "starts": self.starts}, record)
        return Shard.open(path, identity)

    @classmethod
    def open(cls, path: Path, identity: str | None = None) -> Shard:
        """Open a file.

        Raises:
            StoreError: of other data than is asked for.
            FileFormatError: damaged.
        """
        arrays = open_arrays(path, KIND, SCHEMA)
        record: Any = arrays.record
        if identity not in (None, record["identity"]):
            raise StoreError(
                f"{str(path)!r} holds activations of other data than its store: remove the store, "
                "and build it again"
            )
        return cls(record["first"], record["stop"], arrays["starts"], arrays)


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
