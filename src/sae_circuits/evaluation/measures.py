"""The measures as functions of numbers; docs/measures.md says what each does and does not show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import MetricError

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The shares of the edges at which the MIB benchmark evaluates circuits."""

NOISE = 1e-6  # a gap below this share of the values themselves is float32's rounding


def recovered(value: float, *, clean: float, corrupt: float) -> float:
    """The share of the clean-to-corrupt gap that a run recovers: faithfulness.

        f = (m(C) - m(none)) / (m(all) - m(none))

    Args:
        value: the metric's mean on the circuit, m(C).
        clean: on the whole model, m(all).
        corrupt: on the empty circuit, m(none).

    Raises:
        MetricError: there is no gap.

    >>> recovered(2.5, clean=3.0, corrupt=1.0)
    0.75
    """
    gap = clean - corrupt
    if abs(gap) <= NOISE * max(abs(clean), abs(corrupt)):
        raise MetricError(
            f"the metric is {clean:.6g} on the clean run and {corrupt:.6g} on the corrupt one: "
            "there is no gap to recover; use corrupt prompts that change the answer, another "
            "intervention, or a metric that tells the two apart"
        )
    return (value - corrupt) / gap + 0.0  # no -0.0 where nothing is recovered downwards


def recovered_each(
    value: Float[Tensor, "n"], clean: Float[Tensor, "n"], corrupt: Float[Tensor, "n"]
) -> Float[Tensor, "n"]:
    """Faithfulness of each item by itself, NaN where it has no gap of its own."""
    gap = clean - corrupt
    none = gap.abs() <= NOISE * torch.maximum(clean.abs(), corrupt.abs())
    return torch.where(none, torch.nan, (value - corrupt) / torch.where(none, 1.0, gap))


def cpr(fractions: Sequence[float], faithfulness: Sequence[float]) -> float:
    """Circuit performance ratio: the area under the faithfulness curve.

        sum_i (x_{i+1} - x_i) (f_i + f_{i+1}) / 2

    The MIB benchmark ranks edges by sign for it (`by="help"`), those that help most first. Nothing
    is counted below the first fraction, so that a perfect circuit has 0.999; there is no upper
    bound, since a circuit without the edges that hurt does better than the model.

    Args:
        fractions: shares of the edges, ascending.
        faithfulness: at each of them.

    >>> round(cpr((0.001, 0.1, 1), (0.0, 0.5, 1.0)), 6)
    0.69975

    Reference: Mueller et al. 2025, arXiv 2504.13151.
    """
    return _area(fractions, faithfulness)


def cmd(fractions: Sequence[float], faithfulness: Sequence[float]) -> float:
    """Circuit-model distance: the area between the faithfulness curve and 1.

        sum_i (x_{i+1} - x_i) (|1 - f_i| + |1 - f_{i+1}|) / 2

    The MIB benchmark ranks edges by size for it (`by="abs"`). 0 is perfect.

    >>> round(cmd((0.001, 0.1, 1), (0.0, 0.5, 1.0)), 6)
    0.29925

    Reference: Mueller et al. 2025, arXiv 2504.13151.
    """
    return _area(fractions, [abs(1 - f) for f in faithfulness])


def _area(x: Sequence[float], y: Sequence[float]) -> float:
    """Trapezoids between the points, and nothing outside them."""
    points = pairwise(zip(x, y, strict=True))
    return sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in points)


def bootstrap(
    columns: Float[Tensor, "n column"],
    statistic: Callable[[Float[Tensor, "resample column"]], Float[Tensor, "resample"]],
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of a statistic of column means, over resampled examples.

    Columns of one example stay together, so that a ratio of two means is resampled as one.

    Args:
        columns: values per example.
        statistic: from rows of column means to one number each; what is not finite is left out.
        level: the share of the resampled statistics that lies inside.

    >>> values = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    >>> bootstrap(values, lambda means: means[:, 0])
    (0.0, 1.0)

    Reference: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    n, generator = len(columns), torch.Generator().manual_seed(seed)
    picks = torch.randint(n, (n_resamples, n), generator=generator)
    weights = torch.zeros(n_resamples, n, dtype=torch.float64)
    weights.scatter_add_(1, picks, torch.full(picks.shape, 1 / n, dtype=torch.float64))
    found = statistic(weights @ columns.detach().cpu().double())
    found = found[found.isfinite()]
    if not len(found):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = torch.quantile(found, torch.tensor([tail, 1 - tail], dtype=found.dtype)).tolist()
    return low, high
