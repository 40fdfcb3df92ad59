"""The quantile of a value among a feature's activations on a corpus."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

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
    owner, n = columns.owner, columns.counts
    at_most = columns.values <= values.astype(np.float32)[owner]
    below = np.bincount(owner[at_most], minlength=len(n))
    zeros = np.where(values >= 0, n_counted - n, 0)
    with np.errstate(invalid="ignore"):
        return (below + zeros) / np.float64(n_counted), below / n
