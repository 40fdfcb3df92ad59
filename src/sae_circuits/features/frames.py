"""Tables of many rows, from one array for each column: where relations import pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def table(columns: Mapping[str, Any]) -> pandas.DataFrame:
    """A table with these columns.

    >>> table({"feature": [3, 5], "density": [0.5, 0.25]}).to_dict("list")
    {'feature': [3, 5], 'density': [0.5, 0.25]}
    """
    import pandas

    return pandas.DataFrame(dict(columns))


def stacked(tables: Iterable[pandas.DataFrame]) -> pandas.DataFrame:
    """One table under the other; all have the same columns, and there is at least one."""
    import pandas

    every = list(tables)
    return pandas.concat([some for some in every if len(some)] or every[:1], ignore_index=True)
