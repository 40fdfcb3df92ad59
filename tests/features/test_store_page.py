"""docs/store.md names every table and column of the store, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from sae_circuits.features.store.schema import CREATE, DERIVED, SCHEMA, TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "store.md").read_text()


def test_the_page_names_every_table_and_column() -> None:
    connection = duckdb.connect()
    connection.execute(CREATE)
    rows = connection.execute("SELECT table_name, column_name FROM information_schema.columns")
    columns: dict[str, set[str]] = {}
    for table, column in rows.fetchall():
        columns.setdefault(table, set()).add(column)
    parts = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
    assert list(parts) == [*TABLES, *DERIVED]
    for table in parts:
        cells = re.findall(r"^\| (`[^|]+) \|", parts[table], re.MULTILINE)
        assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == columns[table]


def test_the_page_is_of_this_schema() -> None:
    assert f"This is schema {SCHEMA}." in PAGE
