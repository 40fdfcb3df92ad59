"""The quantile of a value among a feature's activations on a corpus."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from sae_circuits.features.columns import Columns


def quantiles_of(
    values: Float64[np.ndarray, "feature"], columns: Columns, n_counted: int
) -> tuple[Float64[np.ndarray, "feature"], Float64[np.ndarray, "feature"]]:
    """The share of counted tokens, and of active ones, with an activation no larger than a value.

    Args:
        values: one for each column; compared in float32, as activations are kept.
        columns: the features' activations.
        n_counted: how many tokens count.

    Returns:
        Shares from 0 to 1; NaN where there is no such token.

    >>> places, values = np.arange(6), np.array([1, 1, 2, 3, 4, 4], dtype=np.float32)
    >>> columns = Columns(np.array([0]), np.array([0, 6]), places, values)
    >>> of_counted, of_active = quantiles_of(np.array([2.0]), columns, n_counted=12)
    >>> of_counted.item(), of_active.item()
    (0.75, 0.5)
    """
    return quantiles_at(values, np.arange(len(columns)), columns, n_counted)


def quantiles_at(
    values: Float64[np.ndarray, "value"],
    column: Int64[np.ndarray, "value"],
    columns: Columns,
    n_counted: int,
) -> tuple[Float64[np.ndarray, "value"], Float64[np.ndarray, "value"]]:
    """The same shares for any number of values of each column.

    Args:
        values: compared in float32, as activations are kept.
        column: which of the columns each value belongs to, from 0.
        columns, n_counted: see `quantiles_of`.
    """
    below, n = np.zeros(len(values), dtype=np.int64), columns.counts[column]
    single = values.astype(np.float32)
    order = np.argsort(column, kind="stable")
    bounds = np.searchsorted(column[order], np.arange(len(columns) + 1))
    for i in range(len(columns)):
        own = order[bounds[i] : bounds[i + 1]]
        below[own] = np.searchsorted(np.sort(columns.column(i)[1]), single[own], side="right")
    zeros = np.where(values >= 0, n_counted - n, 0)
    with np.errstate(invalid="ignore"):
        return (below + zeros) / np.float64(n_counted), below / n
