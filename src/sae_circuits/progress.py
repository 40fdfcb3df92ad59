"""Progress on long work: the one place that draws a bar."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def _is_watched() -> bool:
    """Whether somebody sees a bar: a terminal, or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def track(
    items: Iterable[Item], *, total: int | None = None, description: str = ""
) -> Iterator[Item]:
    """Yield the items, with a bar once they take over a second and somebody is watching."""
    from tqdm.auto import tqdm

    yield from tqdm(
        items,
        total=total,
        desc=description,
        delay=1,
        leave=False,
        disable=not _is_watched(),
    )


def bar(*, total: int, description: str, unit: str) -> Any:
    """A bar for work that is counted in pieces of several units: `with` it, and `update(n)` it."""
    from tqdm.auto import tqdm

    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=True,
        delay=1,
        leave=False,
        disable=not _is_watched(),
    )
