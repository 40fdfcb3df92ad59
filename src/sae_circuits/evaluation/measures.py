"""The measures as functions of numbers; docs/measures.md says what each does and does not show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import MetricError, OptionError

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
    value: Float[Tensor, "*n"], clean: Float[Tensor, "*n"], corrupt: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    """Faithfulness of each item by itself, NaN where it has no gap of its own."""
    gap = clean - corrupt
    none = gap.abs() <= NOISE * torch.maximum(clean.abs(), corrupt.abs())
    return torch.where(none, torch.nan, (value - corrupt) / torch.where(none, 1.0, gap))


def cpr(
    fractions: Sequence[float], faithfulness: Sequence[float], *, from_zero: bool = False
) -> float:
    """Circuit performance ratio: the area under the faithfulness curve.

        sum_i (x_{i+1} - x_i) (f_i + f_{i+1}) / 2

    The MIB benchmark ranks edges by sign for it (`by="help"`), those that help most first. Nothing
    is counted below the first fraction, so that a perfect circuit has 0.999; there is no upper
    bound, since a circuit without the edges that hurt does better than the model.

    Args:
        fractions: shares of the edges, ascending.
        faithfulness: at each of them.
        from_zero: begin at x = 0, where no edge is in and f = 0 by definition, and not at the first
            fraction: areas over other fractions can then be compared. It is not the benchmark's.

    >>> round(cpr((0.001, 0.1, 1), (0.0, 0.5, 1.0)), 6)
    0.69975
    >>> cpr((0.5, 1), (1.0, 1.0)), cpr((0.5, 1), (1.0, 1.0), from_zero=True)
    (0.5, 0.75)

    Reference: Mueller et al. 2025, arXiv 2504.13151.
    """
    return float(areas(fractions, _row(faithfulness), from_zero=from_zero)[0])


def cmd(
    fractions: Sequence[float], faithfulness: Sequence[float], *, from_zero: bool = False
) -> float:
    """Circuit-model distance: the area between the faithfulness curve and 1.

        sum_i (x_{i+1} - x_i) (|1 - f_i| + |1 - f_{i+1}|) / 2

    The MIB benchmark ranks edges by size for it (`by="abs"`). 0 is perfect.

    Args:
        from_zero: begin at x = 0 with f = 0 (see `cpr`); no curve is 1 there, and none has 0.

    >>> round(cmd((0.001, 0.1, 1), (0.0, 0.5, 1.0)), 6)
    0.29925
    >>> cmd((0.5, 1), (1.0, 1.0)), cmd((0.5, 1), (1.0, 1.0), from_zero=True)
    (0.0, 0.25)

    Reference: Mueller et al. 2025, arXiv 2504.13151.
    """
    return float(areas(fractions, _row(faithfulness), from_zero=from_zero)[1])


def areas(
    fractions: Sequence[float],
    faithfulness: Float[Tensor, "*row fraction"],
    *,
    from_zero: bool = False,
) -> tuple[Float[Tensor, "*row"], Float[Tensor, "*row"]]:
    """CPR and CMD of each of many curves over the same fractions.

    Raises:
        OptionError: not one value for each fraction.
    """
    if faithfulness.shape[-1] != len(fractions):
        given = f"{faithfulness.shape[-1]} values for {len(fractions)} fractions"
        raise OptionError(f"{given}: give the faithfulness at each of them")
    x, f = torch.tensor(fractions, dtype=torch.float64), faithfulness.double()
    if from_zero:
        x, f = torch.cat([x.new_zeros(1), x]), torch.cat([torch.zeros_like(f[..., :1]), f], -1)
    return torch.trapezoid(f, x), torch.trapezoid((1 - f).abs(), x)


def _row(values: Sequence[float]) -> Float[Tensor, "fraction"]:
    return torch.tensor(list(values), dtype=torch.float64)


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
    means = resampled_means(columns, n_resamples=n_resamples, seed=seed)
    return percentiles(statistic(means), level=level)


def resampled_means(
    columns: Float[Tensor, "n column"], *, n_resamples: int = 1000, seed: int = 0
) -> Float[Tensor, "resample column"]:
    """The means of columns over examples drawn with replacement, all columns by the same draw."""
    n, generator = len(columns), torch.Generator().manual_seed(seed)
    picks = torch.randint(n, (n_resamples, n), generator=generator)
    weights = torch.zeros(n_resamples, n, dtype=torch.float64)
    weights.scatter_add_(1, picks, torch.full(picks.shape, 1 / n, dtype=torch.float64))
    return weights @ columns.detach().cpu().double()


def percentiles(found: Float[Tensor, "resample"], *, level: float = 0.95) -> tuple[float, float]:
    """The ends of the middle share of what was found; what is not finite is left out."""
    found = found[found.isfinite()]
    if not len(found):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = torch.quantile(found, torch.tensor([tail, 1 - tail], dtype=found.dtype)).tolist()
    return low, high
