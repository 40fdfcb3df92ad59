"""In what sums are taken: float32, or wider where the numbers are.

A product of bfloat16 or float16 numbers that is rounded to their dtype has 8 or 11 bits left, and a
sum of such in their dtype fewer still. So a model runs in its own dtype, and what is made of its
activations is widened first.
"""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor


def wide_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """The widest of some dtypes, and float32 at least.

    >>> wide_dtype(torch.bfloat16), wide_dtype(torch.float16, torch.float64)
    (torch.float32, torch.float64)
    """
    wide = torch.float32
    for dtype in dtypes:
        wide = torch.promote_types(wide, dtype)
    return wide


def wide(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The same numbers in float32, or as they are where they are wider.

    >>> wide(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x.to(wide_dtype(x.dtype))
