"""Devices and dtypes as a user names them, checked before anything is loaded."""

from __future__ import annotations

import torch

from sae_circuits.errors import OptionError, unknown

DTYPES = ("float32", "float64", "bfloat16", "float16")


def as_device(device: torch.device | str | None) -> torch.device | None:
    """A device that is there.

    Raises:
        OptionError: there is none of this name here.

    >>> as_device("cpu")
    device(type='cpu')
    """
    if device is None:
        return None
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        if reason.startswith("Expected one of"):
            reason = "there is no such kind: give 'cpu', 'cuda', 'cuda:1' or 'mps'"
        raise OptionError(f"cannot use the device {str(device)!r}: {reason}") from error
    return place


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A dtype of weights.

    Raises:
        UnknownName: there is none of this name.

    >>> as_dtype("bfloat16")
    torch.bfloat16
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise unknown("dtype", dtype, DTYPES, _ELSEWHERE)
    return getattr(torch, name)


_ELSEWHERE = {
    "float": "float32", "fp32": "float32", "double": "float64", "fp64": "float64",
    "half": "float16", "fp16": "float16", "bf16": "bfloat16",
}  # fmt: skip
