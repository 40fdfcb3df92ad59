"""Numbers as pages hold them: plain, finite or None, and with no more digits than they mean."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

DIGITS = 7  # those of activations, which are kept in float32


def short(x: Shaped[np.ndarray, "*some"] | Any, digits: int = DIGITS) -> Any:
    """Plain numbers with so many significant digits, None where they are not finite.

    >>> short(np.array([0.123456, 1234.56, 0.0, float("nan")]), 3)
    [0.123, 1230.0, 0.0, None]
    """
    values = np.asarray(x, dtype=np.float64)
    finite = np.isfinite(values)
    rounded = _rounded(np.where(finite, values, 0.0), digits)
    if finite.all():
        return rounded.tolist()
    whole = rounded.astype(object)
    whole[~finite] = None
    return whole.tolist()


def _rounded(x: Float[np.ndarray, "*some"], digits: int) -> Float[np.ndarray, "*some"]:
    """The nearest numbers with so many digits, each the one that its decimal stands for."""
    with np.errstate(divide="ignore"):
        size = np.where(x == 0, 0, np.floor(np.log10(np.abs(x))))
    decimals = np.clip(digits - 1 - size, -300, 300)
    up, down = 10.0 ** np.maximum(decimals, 0), 10.0 ** np.maximum(-decimals, 0)
    return np.rint(x * up / down) / up * down + 0.0  # and no -0


def single(x: Float[np.ndarray, "some"]) -> list[float]:
    """Numbers of float32, each as the shortest decimal that is no other float32.

    >>> single(np.array([0.1, 3.0], dtype=np.float32))
    [0.1, 3.0]
    """
    return [float(str(value)) for value in x.astype(np.float32)]


def plain(column: Shaped[np.ndarray, "some"]) -> list[Any]:
    """Numbers or texts of an array as Python's own; None for NaN.

    >>> plain(np.array([3])), plain(np.array([0.5, float("nan")]))
    ([3], [0.5, None])
    """
    found = column.tolist()
    return [None if isinstance(value, float) and not isfinite(value) else value for value in found]
