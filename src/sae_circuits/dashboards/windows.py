"""Windows of examples, of all features of a block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from sae_circuits.dashboards.numbers import short, single
from sae_circuits.dashboards.profile import Window
from sae_circuits.dashboards.reading import Rows
from sae_circuits.features.columns import Columns

SHARE_DIGITS = 5

Key = tuple[int, str, int]  # a feature, a kind of examples, and the number of the group


def windows_of(
    rows: Rows, columns: Columns | None, more: dict[str, Sequence[Any]] | None = None
) -> dict[Key, tuple[Window, ...]]:
    """The windows of each group of each feature.

    Args:
        rows: of the table of examples.
        columns: the features' activations, rising in their ids, where they are at hand.
        more: other fields of a window, one for each row.
    """
    tokens, values = rows.lists("tokens"), rows.lists("activations")
    bounds = [slice(*ends) for ends in pairwise(tokens.starts.tolist())]
    active = np.flatnonzero(values.values)
    activations = np.zeros(len(values.values)).tolist()
    for at, value in zip(active.tolist(), single(values.values[active]), strict=True):
        activations[at] = value
    ids = tokens.values.tolist()
    fields: dict[str, Sequence[Any]] = {
        **{name: rows[name].tolist() for name in ("prompt", "position", "first", "times")},
        "tokens": [tuple(ids[some]) for some in bounds],
        "activations": [tuple(activations[some]) for some in bounds],
        "quantiles": _quantiles(rows, columns),
        **(more or {}),
    }
    keys = zip(*(rows[name].tolist() for name in ("feature", "kind", "group")), strict=True)
    found: dict[Key, list[Window]] = {}
    for key, *row in zip(keys, *fields.values(), strict=True):
        found.setdefault(key, []).append(Window(**dict(zip(fields, row, strict=True))))
    return {key: tuple(windows) for key, windows in found.items()}


def _quantiles(rows: Rows, columns: Columns | None) -> list[tuple[float, ...] | None]:
    """Of the activations of each window that are not 0, by their feature's active values."""
    if columns is None:
        return [None] * len(rows)
    values = rows.lists("activations")
    owner = np.repeat(np.arange(len(rows)), np.diff(values.starts))
    active = values.values != 0
    of_row = np.concatenate([[0], np.cumsum(np.bincount(owner[active], minlength=len(rows)))])
    shares = short(_shares(rows, columns, values.values[active], owner[active]), SHARE_DIGITS)
    return [tuple(shares[i:j]) for i, j in pairwise(of_row.tolist())]


def _shares(
    rows: Rows,
    columns: Columns,
    values: Float32[np.ndarray, "active"],
    owner: np.ndarray,
) -> Float64[np.ndarray, "active"]:
    """How much of its feature's active values each is no smaller than."""
    found, features = np.zeros(len(values)), rows["feature"][owner]
    for i, feature in enumerate(columns.features.tolist()):
        some = slice(*np.searchsorted(features, [feature, feature + 1]))
        if some.stop > some.start:
            ranked = np.sort(columns.column(i)[1])
            found[some] = np.searchsorted(ranked, values[some], side="right") / len(ranked)
    return found
