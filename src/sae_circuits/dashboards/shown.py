"""What the windows of some features show, as arrays: tokens after active ones, and shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sae_circuits.dashboards.numbers import short
from sae_circuits.dashboards.reading import Rows
from sae_circuits.dashboards.windows import split
from sae_circuits.errors import StoreError
from sae_circuits.features.dictionary import FeatureDictionary

SHARE_DIGITS = 5
BLOCK = 64  # features whose activations are read at a time


@dataclass(frozen=True, eq=False)
class Shown:
    """The examples of some features, beside what the activations say of them.

    Args:
        rows: of the table of examples.
        shares: for each activation of a window that is not 0, that of the feature's active tokens
            with an activation no larger.
        preceding: the activation of the token before the window; 0 if there is none.
    """

    rows: Rows
    shares: Float64[np.ndarray, "active"]
    preceding: Float32[np.ndarray, "row"]

    @classmethod
    def of(cls, features: FeatureDictionary, ids: Sequence[int], rows: Rows) -> Shown | None:
        """Of some features; None where the store does not hold activations.

        Args:
            ids: of the features, rising.
            rows: their examples.
        """
        try:
            activations = features.activations
        except StoreError:  # of an export, which has none
            return None
        lists, starts = rows.lists("activations"), activations.corpus.starts
        places = np.where(rows["first"] > 0, starts[rows["prompt"]] + rows["first"] - 1, -1)
        active = lists.values[lists.values != 0]
        bounds = np.concatenate([[0], np.cumsum(lists.values != 0)])[lists.starts]
        shares, preceding = np.zeros(len(active)), np.zeros(len(rows), dtype=np.float32)
        for start in range(0, len(ids), BLOCK):
            columns = activations.columns(ids[start : start + BLOCK])
            for i, feature in enumerate(columns.features.tolist()):
                own = rows.of(feature)
                some = slice(bounds[own.start], bounds[own.stop])
                held, values = columns.column(i)
                preceding[own] = _at(held, values, places[own])
                shares[some] = _shares(values, active[some])
        return cls(rows, shares, preceding)

    @property
    def following(self) -> tuple[Int64[np.ndarray, "follower"], Int64[np.ndarray, "follower"]]:
        """The tokens that follow an active one: of which row, and which of the window's tokens."""
        lists = self.rows.lists("activations")
        before = np.roll(lists.values, 1)
        before[lists.starts[:-1]] = self.preceding
        flat = np.flatnonzero(before)
        row = np.searchsorted(lists.starts, flat, side="right") - 1
        return row, flat - lists.starts[row]

    def quantiles(self) -> tuple[tuple[float, ...], ...]:
        """Shares, window by window."""
        lists = self.rows.lists("activations")
        bounds = np.concatenate([[0], np.cumsum(lists.values != 0)])[lists.starts]
        return split(short(self.shares, SHARE_DIGITS), bounds)


def _at(
    held: Int64[np.ndarray, "active"],
    values: Float32[np.ndarray, "active"],
    places: Int64[np.ndarray, "some"],
) -> Float32[np.ndarray, "some"]:
    """A feature's activations at some places; 0 where it has none."""
    if not len(held):
        return np.zeros(len(places), dtype=np.float32)
    at = np.minimum(np.searchsorted(held, places), len(held) - 1)
    return np.where(held[at] == places, values[at], np.float32(0))


def _shares(
    values: Float32[np.ndarray, "active"], some: Float32[np.ndarray, "some"]
) -> Float64[np.ndarray, "some"]:
    """How much of a feature's active values each of some is no smaller than."""
    return np.searchsorted(np.sort(values), some, "right") / max(1, len(values))
