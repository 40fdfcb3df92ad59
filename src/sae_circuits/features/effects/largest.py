"""The largest or smallest few of each row, ties by the lower index, without sorting all of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_BLOCK = 32
_FEW = 256  # columns that are sorted as they are


class Ends(NamedTuple):
    """Values at one end of each row, the outermost first, and where in the row each stands."""

    values: Float[Tensor, "row k"]
    places: Int64[Tensor, "row k"]


def largest(x: Float[Tensor, "row column"], k: int, *, smallest: bool = False) -> Ends:
    """The k largest of each row, or the k smallest; of equal ones, those that come first.

    They are all in the k blocks of columns whose largest are the largest, which are found in the
    same way.

    >>> largest(torch.tensor([[1.0, 5.0, 3.0, 5.0]]), 3).places.tolist()
    [[1, 3, 2]]
    """
    n = x.shape[1]
    if n <= max(_FEW, k):
        values, places = torch.sort(x, dim=1, descending=not smallest, stable=True)
        return Ends(values[:, :k], places[:, :k])
    extreme, last = (torch.amin, torch.inf) if smallest else (torch.amax, -torch.inf)
    even = n - n % _BLOCK
    of_blocks = extreme(x[:, :even].unflatten(1, (-1, _BLOCK)), dim=-1)
    if even < n:
        rest = extreme(x[:, even:], dim=-1, keepdim=True)
        of_blocks = torch.cat([of_blocks, rest], 1)
    blocks = largest(of_blocks, min(k, of_blocks.shape[1]), smallest=smallest).places
    starts = blocks.sort(1)[0] * _BLOCK
    places = (starts[..., None] + torch.arange(_BLOCK, device=x.device)).flatten(1)
    among = x.gather(1, places.clamp(max=n - 1)).masked_fill_(places >= n, last)
    values, order = torch.sort(among, dim=1, descending=not smallest, stable=True)
    return Ends(values[:, :k], places.gather(1, order[:, :k]))
