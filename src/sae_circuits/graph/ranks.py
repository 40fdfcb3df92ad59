"""Ranks of numbers: where each stands among all."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def ranks(values: Float[Tensor, "item"]) -> Float[Tensor, "item"]:
    """Each value's place among all, from 1 for the smallest; equal ones share their mean place.

    >>> import torch
    >>> ranks(torch.tensor([0.5, -2.0, 0.5, 3.0])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2.0).double()[places]


def signed_ranks(values: Float[Tensor, "item"]) -> Float[Tensor, "item"]:
    """The rank of each value's size, as a share of all, with the value's sign; 0 stays 0.

        r = sign(v) rank(|v|) / n

    >>> import torch
    >>> signed_ranks(torch.tensor([0.5, -2.0, 0.0, 3.0])).tolist()
    [0.5, -0.75, 0.0, 1.0]
    """
    return values.sign().double() * ranks(values.abs()) / max(len(values), 1)
