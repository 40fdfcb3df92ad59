"""Windows of examples, of all features of a block at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sae_circuits.dashboards.numbers import single
from sae_circuits.dashboards.profile import Window
from sae_circuits.dashboards.reading import Rows

Key = tuple[int, str, int]  # a feature, a kind of examples, and the number of the group


def windows_of(rows: Rows, more: Mapping[str, Sequence[Any]]) -> dict[Key, tuple[Window, ...]]:
    """The windows of each group of each feature.

    Args:
        rows: of the table of examples.
        more: a window's other fields, each for all rows.
    """
    tokens, values = rows.lists("tokens"), rows.lists("activations")
    bounds = [slice(*ends) for ends in pairwise(tokens.starts.tolist())]
    active = np.flatnonzero(values.values)
    activations = np.zeros(len(values.values)).tolist()
    for at, value in zip(active.tolist(), single(values.values[active]), strict=True):
        activations[at] = value
    ids = tokens.values.tolist()
    fields: dict[str, Sequence[Any]] = {
        **{name: rows[name].tolist() for name in ("prompt", "position", "first", "times")},
        "tokens": [tuple(ids[some]) for some in bounds],
        "activations": [tuple(activations[some]) for some in bounds],
        **more,
    }
    keys = zip(*(rows[name].tolist() for name in ("feature", "kind", "group")), strict=True)
    found: dict[Key, list[Window]] = {}
    for key, *row in zip(keys, *fields.values(), strict=True):
        found.setdefault(key, []).append(Window(**dict(zip(fields, row, strict=True))))
    return {key: tuple(windows) for key, windows in found.items()}
