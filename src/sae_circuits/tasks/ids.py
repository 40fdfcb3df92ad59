"""Token ids as a user has them: tensors, arrays or lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from sae_circuits.errors import TaskError

Ids = Shaped[Tensor, "..."] | Shaped[np.ndarray, "..."] | Sequence[Any]


def as_ids(
    what: str, ids: Ids, dims: tuple[int, ...], n: int | None = None
) -> Int64[Tensor, "n ..."]:
    """Token ids as a tensor.

    Args:
        what: they are, for the message.
        ids: a tensor of int64, or an array or a list of whole numbers.
        dims: how many dimensions they may have.
        n: rows that they must have.

    Raises:
        TaskError: other shapes, rows of unequal length, or no whole numbers.

    >>> as_ids("answer", [5, 6], dims=(1, 2), n=2)
    tensor([5, 6])
    """
    found = ids if isinstance(ids, Tensor) else _read(what, ids)
    if found.dtype != torch.int64 or found.ndim not in dims:
        raise TaskError(
            f"{what} is {found.dtype} of shape {tuple(found.shape)}: give torch.int64 of "
            f"{' or '.join(map(str, dims))} dimensions"
        )
    if n is not None and len(found) != n:
        raise TaskError(f"{what} has {len(found)} rows, and clean has {n}")
    return found


def _read(what: str, ids: Ids) -> Tensor:
    if isinstance(ids, str) or (len(ids) and isinstance(ids[0], str)):
        raise TaskError(
            f"{what} holds text, {ids if isinstance(ids, str) else ids[0]!r}, where token ids are "
            "wanted: take Task.from_strings"
        )
    try:
        found = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaskError(
            f"{what} makes no tensor: {error}; give rows of equal length, padded, with a mask that "
            "is true at the real tokens"
        ) from error
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    return found.long() if whole else found


def as_mask(mask: Ids | None) -> Shaped[Tensor, "..."] | None:
    """A mask as a tensor, where there is one."""
    return mask if mask is None or isinstance(mask, Tensor) else torch.as_tensor(mask)
