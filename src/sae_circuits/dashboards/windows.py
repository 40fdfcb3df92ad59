"""Windows of examples, of all features of a block at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int64

from sae_circuits.dashboards.numbers import single
from sae_circuits.dashboards.reading import Rows
from sae_circuits.dashboards.window import Windows

Key = tuple[int, str, int]  # a feature, a kind of examples, and the number of the group
T = TypeVar("T")


def windows_of(rows: Rows, more: Mapping[str, Any]) -> dict[Key, Windows]:
    """The windows of each group of each feature.

    Args:
        rows: of the table of examples, those of a group in a row.
        more: other fields of the windows, of all rows.
    """
    tokens, values = rows.lists("tokens"), rows.lists("activations")
    flat = np.flatnonzero(values.values)
    bounds = np.searchsorted(flat, values.starts)
    at = flat - np.repeat(values.starts[:-1], np.diff(bounds))
    every = Windows(
        *(tuple(rows[name].tolist()) for name in ("prompt", "position", "first", "times")),
        tokens=split(tokens.values.tolist(), tokens.starts),
        active=split(at.tolist(), bounds),
        activations=split(single(values.values[flat]), bounds),
        **more,
    )
    keys = list(zip(*(rows[name].tolist() for name in ("feature", "kind", "group")), strict=True))
    starts = [i for i, key in enumerate(keys) if not i or key != keys[i - 1]]
    return {keys[i]: every[i:j] for i, j in pairwise([*starts, len(keys)])}


def split(flat: Sequence[T], bounds: Int64[np.ndarray, "ends"]) -> tuple[tuple[T, ...], ...]:
    """The parts of a list between bounds.

    >>> split("abcd", np.array([0, 3, 3, 4]))
    (('a', 'b', 'c'), (), ('d',))
    """
    whole = tuple(flat)
    return tuple([whole[i:j] for i, j in pairwise(bounds.tolist())])
