"""What the windows of some features show, as arrays: tokens after active ones, and shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sae_circuits.dashboards.numbers import short
from sae_circuits.dashboards.reading import Rows
from sae_circuits.errors import StoreError
from sae_circuits.features.columns import Columns
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.features.examples import activations_at

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
        lists, corpus = rows.lists("activations"), activations.corpus
        places = corpus.starts[rows["prompt"]] + rows["first"] - 1
        bounds = np.concatenate([[0], np.cumsum(lists.values != 0)])[lists.starts]
        active = lists.values[lists.values != 0]
        shares, preceding = np.zeros(len(active)), np.zeros(len(rows), dtype=np.float32)
        for start in range(0, len(ids), BLOCK):
            columns = activations.columns(ids[start : start + BLOCK])
            first, stop = np.searchsorted(
                rows["feature"], [columns.features[0], columns.features[-1] + 1]
            )
            own, some = slice(int(first), int(stop)), slice(*bounds[[first, stop]].tolist())
            owner = np.searchsorted(columns.features, rows["feature"][own])
            inside = rows["first"][own] > 0
            preceding[own][inside] = activations_at(columns, owner[inside], places[own][inside])
            of_active = np.repeat(owner, np.diff(bounds)[own])
            shares[some] = _shares(columns, of_active, active[some])
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

    def quantiles(self) -> list[tuple[float, ...]]:
        """Shares, window by window."""
        lists = self.rows.lists("activations")
        bounds = np.concatenate([[0], np.cumsum(lists.values != 0)])[lists.starts].tolist()
        shares = short(self.shares, SHARE_DIGITS)
        return [tuple(shares[i:j]) for i, j in pairwise(bounds)]


def _shares(
    columns: Columns, owner: Int64[np.ndarray, "some"], values: Float32[np.ndarray, "some"]
) -> Float64[np.ndarray, "some"]:
    """How much of its column's values each value is no smaller than; owners rise."""
    found = np.zeros(len(values))
    ends = np.searchsorted(owner, np.arange(len(columns) + 1))
    for i, (start, stop) in enumerate(pairwise(ends.tolist())):
        if stop > start:
            ranked = np.sort(columns.column(i)[1])
            found[start:stop] = np.searchsorted(ranked, values[start:stop], "right") / len(ranked)
    return found
