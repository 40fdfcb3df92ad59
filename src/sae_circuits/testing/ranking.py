"""How well scores rank the true edges above the others."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def auroc(sizes: Float[Tensor, "edge"], true: Bool[Tensor, "edge"]) -> float:
    """How often a true edge outranks another one; ties count half.

    >>> import torch
    >>> auroc(torch.tensor([3.0, 1.0, 1.0, 0.0]), torch.tensor([True, True, False, False]))
    0.875
    """
    wins = sizes[true][:, None] - sizes[~true]
    return float((wins > 0).double().mean() + (wins == 0).double().mean() / 2)


def auprc(sizes: Float[Tensor, "edge"], true: Bool[Tensor, "edge"]) -> float:
    """Average precision: of each true edge, the share of true ones among all no smaller than it.

    >>> import torch
    >>> auprc(torch.tensor([3.0, 1.0, 1.0, 0.0]), torch.tensor([True, True, False, False]))
    0.8333...
    """
    no_smaller = sizes >= sizes[true][:, None]
    return float(((no_smaller & true).sum(1) / no_smaller.sum(1).double()).mean())
