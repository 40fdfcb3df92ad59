"""What each number about a feature's activations means, and how it is made of a block of columns.

With a_t the activation on token t, over N counted tokens of which n are active (a_t != 0):

    density     n / N
    mean, std   over the active tokens, and over all counted ones; std^2 = mean of (a - mean)^2
    histogram   equal bins over [min, max] of the active values, the last one closed
    intervals   equal half-open intervals (lo, hi] of (0, max]; from the least value on, which the
                first one holds, where there are negative ones
    quantiles   groups of equal count of the active tokens by rank: from the smallest value on

Sums are in float64 and over one feature at a time, in the order of tokens, so that nothing hangs on
how features are grouped. What is undefined, as a mean of no values, is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sae_circuits.features.columns import Columns

DEAD, ULTRA_SPARSE, SPARSE, MODERATE, DENSE = "dead", "ultra-sparse", "sparse", "moderate", "dense"
LIMITS = ((1e-4, ULTRA_SPARSE), (1e-2, SPARSE), (1e-1, MODERATE))


@dataclass(frozen=True, eq=False)
class Statistics:
    """One entry for each feature of a block."""

    feature: Int64[np.ndarray, "feature"]
    n_active: Int64[np.ndarray, "feature"]
    density: Float64[np.ndarray, "feature"]
    mean: Float64[np.ndarray, "feature"]
    std: Float64[np.ndarray, "feature"]
    max: Float64[np.ndarray, "feature"]
    min: Float64[np.ndarray, "feature"]
    mean_active: Float64[np.ndarray, "feature"]
    std_active: Float64[np.ndarray, "feature"]
    max_active: Float64[np.ndarray, "feature"]
    min_active: Float64[np.ndarray, "feature"]

    @property
    def type(self) -> list[str]:
        """By density: see `type_of`."""
        return [type_of(density) for density in self.density.tolist()]

    def arrays(self) -> dict[str, np.ndarray]:
        """Every column by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def type_of(density: float) -> str:
    """Dead, ultra-sparse (below 1e-4), sparse (1e-2), moderate (1e-1) or dense.

    >>> type_of(0), type_of(0.01), type_of(0.5)
    ('dead', 'moderate', 'dense')
    """
    if density == 0:
        return DEAD
    return next((name for limit, name in LIMITS if density < limit), DENSE)


def statistics(columns: Columns, n_counted: int) -> Statistics:
    """Numbers about each feature of a block over so many counted tokens."""
    n, N = columns.counts, n_counted
    some = n > 0
    values = columns.values.astype(np.float64)
    total = _reduced(np.add, values, columns)
    with np.errstate(invalid="ignore"):
        active = total / n
        squares = _reduced(np.add, (values - np.repeat(active, n)) ** 2, columns)
        high = np.where(some, _reduced(np.maximum, values, columns), np.nan)
        low = np.where(some, _reduced(np.minimum, values, columns), np.nan)
        mean = total / N if N else np.full(len(n), np.nan)
        between = np.where(some, active, 0) ** 2 * n * (1 - n / max(N, 1))  # of active and others
        std = np.sqrt((squares + between) / N) if N else mean
        std_active = np.sqrt(squares / n)
    full = n == N
    return Statistics(
        feature=columns.features,
        n_active=n,
        density=n / N if N else np.full(len(n), np.nan),
        mean=mean,
        std=std,
        max=np.where(full, high, np.fmax(high, 0.0)),
        min=np.where(full, low, np.fmin(low, 0.0)),
        mean_active=active,
        std_active=std_active,
        max_active=high,
        min_active=low,
    )


def _reduced(
    how: np.ufunc, values: Float64[np.ndarray, "active"], columns: Columns
) -> Float64[np.ndarray, "feature"]:
    """One number of each feature's values, 0 where it has none."""
    out = np.zeros(len(columns))
    some = columns.counts > 0
    if some.any():
        out[some] = how.reduceat(values, columns.starts[:-1][some])
    return out


# -- distributions ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of active values, and the edges between them, of each feature of a block."""

    edges: Float64[np.ndarray, "feature edge"]
    counts: Int64[np.ndarray, "feature bin"]


def histogram(columns: Columns, found: Statistics, bins: int) -> Histogram:
    """Equal bins over the active values; a feature of one value has them all in the last bin."""
    low, high = found.min_active, found.max_active
    edges = _edges(low, high, bins)
    width = np.repeat((high - low) / bins, columns.counts)
    above = columns.values - np.repeat(low, columns.counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        place = np.where(width > 0, np.floor(above / width), bins - 1)
    return Histogram(edges, _settled(columns, edges, place, closed="left"))


def intervals(columns: Columns, found: Statistics, n: int) -> Histogram:
    """Equal half-open intervals (lo, hi], from 0 or the least value to the largest."""
    low, high = np.fmin(found.min_active, 0.0), np.fmax(found.max_active, 0.0)
    edges = _edges(low, high, n)
    width = np.repeat((high - low) / n, columns.counts)
    above = columns.values - np.repeat(low, columns.counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        place = np.where(width > 0, np.ceil(above / width) - 1, n - 1)
    return Histogram(edges, _settled(columns, edges, place, closed="right"))


def _edges(
    low: Float64[np.ndarray, "feature"], high: Float64[np.ndarray, "feature"], n: int
) -> Float64[np.ndarray, "feature edge"]:
    edges = low[:, None] + (high - low)[:, None] * (np.arange(n + 1) / n)
    edges[:, -1] = high
    return edges


def _settled(
    columns: Columns,
    edges: Float64[np.ndarray, "feature edge"],
    place: Float64[np.ndarray, "active"],
    closed: str,
) -> Int64[np.ndarray, "feature bin"]:
    """Counts of the bins, once values that rounding put beside theirs are moved by the edges."""
    bins, owner = edges.shape[1] - 1, columns.owner
    place = np.clip(place, 0, bins - 1).astype(np.int64)
    values = columns.values.astype(np.float64)
    if closed == "left":
        down, up = values < edges[owner, place], values >= edges[owner, place + 1]
    else:
        down, up = values <= edges[owner, place], values > edges[owner, place + 1]
    place += up.astype(np.int64) - down
    place = np.clip(place, 0, bins - 1)
    flat = np.bincount(owner * bins + place, minlength=len(columns) * bins)
    return flat.reshape(len(columns), bins)


def by_rank(columns: Columns) -> Int64[np.ndarray, "active"]:
    """The order in which each feature's values fall, those that are equal by their place."""
    order = np.empty(len(columns.values), dtype=np.int64)
    falling = -columns.values
    for start, stop in zip(columns.starts[:-1].tolist(), columns.starts[1:].tolist(), strict=True):
        order[start:stop] = falling[start:stop].argsort(kind="stable")
    return order + np.repeat(columns.starts[:-1], columns.counts)


def group_bounds(n: Int64[np.ndarray, "feature"], groups: int) -> Int64[np.ndarray, "feature edge"]:
    """Ranks at which groups of equal count begin and end, from the smallest value on."""
    return n[:, None] * np.arange(groups + 1) // groups


def quantiles(
    columns: Columns, order: Int64[np.ndarray, "active"], groups: int
) -> Float32[np.ndarray, "feature edge"]:
    """The least value, the largest one of each group, NaN where a feature has no value."""
    ranked = np.append(columns.values[order], np.float32("nan"))
    rank = np.maximum(group_bounds(columns.counts, groups) - 1, 0)
    ends = columns.starts[1:, None] - 1 - rank
    return np.where(columns.counts[:, None] > 0, ranked[ends], np.float32("nan"))
