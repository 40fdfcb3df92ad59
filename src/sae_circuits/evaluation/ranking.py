"""Statistics of rankings."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.graph.ranks import ranks

NAN = float("nan")


def pearson(x: Float[Tensor, "item"], y: Float[Tensor, "item"]) -> float:
    """The correlation of two columns; NaN where one of them is constant."""
    both = torch.stack([v.detach().cpu().double() for v in (x, y)])
    if len(x) < 2 or bool((both.amin(1) == both.amax(1)).any()):
        return NAN
    return float(both.corrcoef()[0, 1])


def spearman(x: Float[Tensor, "item"], y: Float[Tensor, "item"]) -> float:
    """The correlation of their ranks; NaN where one of them is constant."""
    return pearson(ranks(x.detach()), ranks(y.detach()))


def auroc(
    values: Float[Tensor, "item"], positive: Bool[Tensor, "item"], *, n_missed: int = 0
) -> float:
    """How often a positive item outranks another one; equal values count half.

        AUROC = (sum of the positive items' ranks - P (P + 1) / 2) / (P N)

    Args:
        n_missed: positive items that have no value, and so rank below all others.

    NaN where there is no positive item or none besides.

    >>> auroc(torch.tensor([3.0, 1.0, 1.0, 0.0]), torch.tensor([True, True, False, False]))
    0.875
    """
    n, n_known = int((~positive).sum()), int(positive.sum())
    if not n or not n_known + n_missed:
        return NAN
    wins = float(ranks(values.detach().cpu())[positive.cpu()].sum()) - n_known * (n_known + 1) / 2
    return wins / (n * (n_known + n_missed))


def average_precision(
    values: Float[Tensor, "item"], positive: Bool[Tensor, "item"], *, n_missed: int = 0
) -> float:
    """AUPRC: the mean precision at the thresholds that let a positive item in.

        AP = sum over thresholds of (recall gained there) * (precision there)

    Equal values come in together. NaN where there is no positive item.

    Args:
        n_missed: positive items that have no value, and so are never found.

    >>> average_precision(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]))
    0.8333333333333333
    """
    n_true = int(positive.sum()) + n_missed
    if not n_true:
        return NAN
    found, taken = _cumulated(values, positive)
    gained = torch.diff(found, prepend=found.new_zeros(1))
    return float((gained * found / taken).sum()) / n_true


def precision_at(values: Float[Tensor, "item"], positive: Bool[Tensor, "item"], k: int) -> float:
    """The share of positive items among the k largest, in the mean over orders of equal values.

    >>> precision_at(torch.tensor([3.0, 1.0, 1.0]), torch.tensor([True, False, True]), 2)
    0.75
    """
    found, taken = (torch.cat([v.new_zeros(1), v]) for v in _cumulated(values, positive))
    last = int((taken < k).sum()) - 1  # the last threshold that lets fewer than k in
    share = (found[last + 1] - found[last]) / (taken[last + 1] - taken[last])
    return float(found[last] + share * (k - taken[last])) / k


def _cumulated(
    values: Float[Tensor, "item"], positive: Bool[Tensor, "item"]
) -> tuple[Float[Tensor, "threshold"], Float[Tensor, "threshold"]]:
    """How many positive items, and how many of all, are at or above each value there is."""
    _, which = (-values.detach().cpu().double()).unique(return_inverse=True)
    counts = torch.stack([positive.cpu().double(), torch.ones(len(values)).double()])
    totals = torch.zeros(2, int(which.max()) + 1, dtype=torch.float64)
    found, taken = totals.index_add_(1, which, counts).cumsum(1)
    return found, taken


def shared_by_chance(n_first: int, n_second: int, n_all: int) -> dict[int, float]:
    """How many items two random sets share, with the chance of each number: hypergeometric.

    P(x) = C(n_first, x) C(n_all - n_first, n_second - x) / C(n_all, n_second)
    """
    most = range(max(0, n_first + n_second - n_all), min(n_first, n_second) + 1)
    x = torch.tensor(most, dtype=torch.float64)
    log = _log_choices(n_first, x) + _log_choices(n_all - n_first, n_second - x)
    chances = (log - _log_choices(n_all, torch.tensor(float(n_second)).double())).exp()
    return dict(zip(most, chances.tolist(), strict=True))


def _log_choices(n: int, k: Float[Tensor, "*number"]) -> Float[Tensor, "*number"]:
    """The logarithm of how many sets of k there are of n."""
    whole = torch.tensor(float(n)).double()
    return torch.lgamma(whole + 1) - torch.lgamma(k + 1) - torch.lgamma(whole - k + 1)
