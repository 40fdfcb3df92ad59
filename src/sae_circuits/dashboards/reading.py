"""What a store says of some features, read with one query for each table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64

from sae_circuits.dashboards.numbers import plain, short
from sae_circuits.features.store.database import Database, Lists

QUERIES = {
    "features": "SELECT * FROM features WHERE {asked} ORDER BY feature",
    "distributions": "SELECT * FROM distributions WHERE {asked} ORDER BY feature, kind",
    "examples": """SELECT * EXCLUDE (text) FROM examples WHERE {asked}
                   ORDER BY feature, kind, "group", rank""",
    "feature_tokens": """SELECT feature, token, n, share, recall FROM feature_tokens
                         WHERE {asked} ORDER BY feature, rank""",
    "logits": "SELECT * FROM logits WHERE {asked} ORDER BY feature, kind, rank",
    "correlations": """SELECT correlations.*, best.text AS label FROM correlations
                       LEFT JOIN best ON best.feature = other AND among = 'features'
                       WHERE {asked}
                       ORDER BY correlations.feature, among != 'features', among, measure, rank""",
    "neurons": "SELECT * FROM neurons WHERE {asked} ORDER BY feature, rank",
    "heads": "SELECT * FROM heads WHERE {asked} ORDER BY feature, head",
    "labels": """SELECT feature, strategy, text, score FROM labels WHERE {asked} AND shown
                 ORDER BY feature, score DESC NULLS FIRST, strategy""",
}


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table, those of a feature in a row."""

    columns: Mapping[str, Any]
    known: dict[tuple[str, int | None], tuple[Any, ...]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.columns["feature"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def lists(self, name: str) -> Lists:
        """A column of lists."""
        return self.columns[name]

    def plain(self, name: str, digits: int | None = None) -> tuple[Any, ...]:
        """A column as plain values; numbers of as many digits as asked for."""
        if (name, digits) not in self.known:
            held = self.columns[name]
            values = held.values if isinstance(held, Lists) else held
            self.known[name, digits] = tuple(short(values, digits) if digits else plain(values))
        return self.known[name, digits]

    def listed(self, name: str, i: int, digits: int | None = None) -> tuple[Any, ...]:
        """One list of a column of lists, likewise."""
        return self.plain(name, digits)[slice(*self.lists(name).starts[i : i + 2].tolist())]

    def of(self, feature: int) -> slice:
        """Where the rows of a feature stand."""
        return self.between(feature, feature)

    def between(self, low: int, high: int) -> slice:
        """Where the rows of all features from one to another stand."""
        held = self.columns["feature"]
        return slice(*np.searchsorted(held, [low, high + 1]).tolist())

    def some(self, rows: slice) -> Rows:
        """Some rows in a row."""
        return Rows({name: _part(column, rows) for name, column in self.columns.items()})

    def where(self, feature: int, name: str, value: Any) -> Int64[np.ndarray, "some"]:
        """The rows of a feature with a value in a column."""
        some = self.of(feature)
        return np.flatnonzero(self.columns[name][some] == value) + some.start


def _part(column: Any, rows: slice) -> Any:
    if not isinstance(column, Lists):
        return column[rows]
    starts = column.starts[rows.start : rows.stop + 1]
    return Lists(column.values[starts[0] : starts[-1]], starts - starts[0])


def rows_of(database: Database, features: Sequence[int]) -> dict[str, Rows]:
    """The rows of all tables that tell of some features.

    Args:
        features: their ids.
    """
    low, high = min(features), max(features)  # which spares what lies outside
    few = high - low >= len(set(features))
    found = {}
    for name, query in QUERIES.items():
        asked = f"{name}.feature BETWEEN ? AND ?"
        asked += f" AND {name}.feature IN (SELECT unnest(?))" if few else ""
        parameters = [low, high, *([list(features)] if few else [])]
        found[name] = Rows(database.columns(query.format(asked=asked), parameters))
    return found


def texts_of(database: Database, tokens: Sequence[int]) -> dict[int, str]:
    """What some tokens read, by id."""
    rows = database.columns(
        "SELECT token, text FROM tokens WHERE token IN (SELECT unnest(?)) ORDER BY token",
        [list(tokens)],
    )
    return dict(zip(rows["token"].tolist(), rows["text"].tolist(), strict=True))
