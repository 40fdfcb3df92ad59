"""`Database`: the tables of a store in one DuckDB file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sae_circuits.disk.atomic import part_of
from sae_circuits.errors import CircuitsError, OutputError, StoreError
from sae_circuits.features.store.schema import CREATE, DERIVED, FORMAT, SCHEMA, TABLES

AT_A_TIME = 4  # small queries: most of their time is planning, which DuckDB does in one thread

Table = Mapping[str, Any] | pa.Table
"""Columns by name, arrays, `Lists` or `Joined`; or what a query gave."""


@dataclass(frozen=True, eq=False)
class Lists:
    """A column of lists: those from starts[i] to starts[i + 1]."""

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Lists:
        """One list for each row of a matrix."""
        n, size = rows.shape
        return cls(rows.reshape(-1), np.arange(n + 1) * size)


class Change(NamedTuple):
    """Rows for a table, in the place of those that a condition names."""

    name: str
    rows: Table
    where: str
    parameters: Sequence[Any]


@dataclass(frozen=True, eq=False)
class Joined:
    """A column of texts: those of the ids of each list, one after the other.

    Args:
        ids: of the texts.
        texts: of all ids.
        gap: what stands between two of them.
    """

    ids: Lists
    texts: Sequence[str]
    gap: str


@dataclass(frozen=True, eq=False)
class Database:
    """A DuckDB file of ours, which any number of readers can have open at a time."""

    path: Path
    _reader: list[duckdb.DuckDBPyConnection] = field(default_factory=list, repr=False)
    _meta: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Database:
        """Open a file.

        Raises:
            StoreError: no such file, a damaged one, or one of a newer version.
        """
        found = cls(Path(path))
        with found.reading():
            pass
        try:
            said = found.meta()
        except (StoreError, ValueError) as error:
            raise StoreError(_damaged(found.path, error)) from error
        if said.get("format") != FORMAT:
            raise StoreError(f"{str(path)!r} is a database, but no store of features")
        if (held := said.get("schema")) != SCHEMA:
            older = isinstance(held, int) and held < SCHEMA
            remedy = "remove it, and build it again" if older else "update sae-circuits"
            raise StoreError(
                f"{str(path)!r} is of schema {held}, and this version reads {SCHEMA}: {remedy}"
            )
        return found

    # -- asking ----------------------------------------------------------------------------------

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """What a query gives; `?` in it stands for a parameter.

        Raises:
            StoreError: what DuckDB finds wrong with it.
        """
        with self._answer(sql, parameters) as found:
            return found.df()

    def arrow(self, sql: str) -> pa.Table:
        """What a query gives, to be put into another store."""
        with self.reading() as connection:
            return connection.sql(sql).to_arrow_table()

    def columns(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, Any]:
        """What a query gives, an array for each column; `Lists` of those that hold lists.

        NULL is NaN among numbers, and None among texts.
        """
        with self.reading() as connection:
            table = connection.sql(sql, params=list(parameters)).to_arrow_table()
        return {name: _array(table.column(name)) for name in table.column_names}

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """What a query gives, row by row, in plain values."""
        with self._answer(sql, parameters) as found:
            keys = [column[0] for column in found.description or ()]
            return [dict(zip(keys, row, strict=True)) for row in found.fetchall()]

    def answers(
        self, queries: Mapping[str, str], parameters: Sequence[Any] = ()
    ) -> dict[str, list[dict[str, Any]]]:
        """`rows` of several queries with the same parameters, some of them at a time."""
        with self.reading(), ThreadPoolExecutor(AT_A_TIME) as pool:
            each = pool.map(lambda sql: self.rows(sql, parameters), queries.values())
            return dict(zip(queries, each, strict=True))

    @contextmanager
    def _answer(self, sql: str, parameters: Sequence[Any]) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.reading() as connection:
            try:
                found = connection.execute(sql, list(parameters))
                if found is None or found.description is None:
                    raise StoreError(f"no query: {sql!r}")
                yield found
            except duckdb.Error as error:
                if "Corrupt database" in str(error):
                    raise StoreError(_damaged(self.path, error)) from error
                raise StoreError(f"{_first_line(error)}\nin: {sql.strip()}") from error

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that can only read, kept open for the next question.

        Raises:
            StoreError: no such file, a damaged one, or one that is just being written.
        """
        if not self._reader:
            if not self.path.is_file():
                raise StoreError(
                    f"no store at {str(self.path)!r}: build one, by FeatureDictionary.build"
                )
            try:
                self._reader.append(_connected(self.path, read_only=True))
            except duckdb.Error as error:
                raise StoreError(_damaged(self.path, error)) from error
            _OPEN.add(self)
        cursor = self._reader[0].cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        while self._reader:
            self._reader.pop().close()
        self._meta.clear()
        _OPEN.discard(self)

    def meta(self) -> dict[str, Any]:
        """The record of the store, which cannot change while it is open."""
        if not (self._reader and self._meta):
            rows = self.rows("FROM meta")
            self._meta.update((row["key"], json.loads(row["value"])) for row in rows)
        return dict(self._meta)

    # -- writing ---------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, path: str | Path, tables: Iterator[tuple[str, Table]], meta: Mapping[str, Any]
    ) -> Database:
        """Write a store, whole or not at all.

        Args:
            tables: rows to add to each table, in any number of parts.
            meta: plain values.

        Raises:
            OutputError: the place cannot be written, or the disk is full.
        """
        with _whole(Path(path)) as connection:
            for name, table in tables:
                _insert(connection, name, table)
            _derive(connection, TABLES)
            _insert(connection, "meta", meta_rows({"format": FORMAT, "schema": SCHEMA, **meta}))
        return cls(Path(path))

    @classmethod
    def of_tables(cls, path: str | Path, tables: Mapping[str, Path | Sequence[Any]]) -> Database:
        """Write a store of whole tables, or nothing at all.

        Args:
            tables: Parquet files, or rows in plain values.

        Raises:
            StoreError: they are none of a store.
            OutputError: the place cannot be written, or the disk is full.
        """
        path = Path(path)
        with _whole(path, lambda part: cls.open(part).close()) as connection:
            for name, table in tables.items():
                try:
                    _take(connection, name, table)
                except (duckdb.Error, pa.ArrowException, AttributeError, TypeError) as error:
                    raise StoreError(f"no table {name!r}: {_first_line(error)}") from error
            _derive(connection, TABLES)
        return cls(path)

    def copy(self, name: str, path: Path) -> None:
        """Write a table to a Parquet file, whole or not at all.

        Raises:
            OutputError: the place cannot be written, or the disk is full.
        """
        part = part_of(path)
        with self.reading() as connection:
            try:
                connection.execute(f'COPY "{name}" TO {_quoted(part)} (FORMAT parquet)')
                os.replace(part, path)
            except (duckdb.Error, OSError) as error:
                raise OutputError(f"cannot write {str(path)!r}: {_first_line(error)}") from error
            finally:
                part.unlink(missing_ok=True)

    def change(self, *changes: Change) -> None:
        """Put rows in the place of others, all of them or none.

        Raises:
            OutputError: somebody has the store open, or it cannot be written.
        """
        for other in list(_OPEN):  # DuckDB does not write what this program reads elsewhere
            if other.path.resolve() == self.path.resolve():
                other.close()
        try:
            with _writing(self.path) as connection:
                connection.execute("BEGIN")
                for name, table, where, parameters in changes:
                    connection.execute(f'DELETE FROM "{name}" WHERE {where}', list(parameters))
                    _insert(connection, name, table)
                _derive(connection, [change.name for change in changes])
                connection.execute("COMMIT")
        except (duckdb.Error, OSError) as error:
            raise OutputError(
                f"cannot write {str(self.path)!r}: {_first_line(error)}; close what has it open"
            ) from error


_OPEN: WeakSet[Database] = WeakSet()
"""What this program has open for reading."""


@contextmanager
def _writing(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = _connected(path)
    try:
        yield connection
    finally:
        connection.close()


def _connected(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path), read_only=read_only)
    with suppress(duckdb.InvalidInputException):  # in a notebook without ipywidgets there is no bar
        connection.execute("SET enable_progress_bar = false")
    return connection


@contextmanager
def _whole(
    path: Path, check: Callable[[Path], None] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Empty tables in a new file, which takes its name once they are filled."""
    part = part_of(path)
    try:
        with _writing(part) as connection:
            connection.execute(CREATE)
            yield connection
        if check is not None:
            check(part)
        os.replace(part, path)
    except (duckdb.Error, OSError) as error:
        if isinstance(error, CircuitsError):
            raise
        raise OutputError(f"cannot write {str(path)!r}: {_first_line(error)}") from error
    finally:
        for left in (part, part.with_name(part.name + ".wal")):
            left.unlink(missing_ok=True)


def _insert(connection: duckdb.DuckDBPyConnection, name: str, table: Table) -> None:
    """Add rows to a table; NaN and infinity become NULL."""
    rows = table
    if not isinstance(table, pa.Table):
        rows = pa.table({column: _arrow(values) for column, values in table.items()})
    connection.register("rows", rows)
    connection.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM rows')
    connection.unregister("rows")


def _derive(connection: duckdb.DuckDBPyConnection, changed: Container[str]) -> None:
    """Make anew what follows from some tables."""
    for name, derived in DERIVED.items():
        if derived.of in changed:
            connection.execute(
                f'DELETE FROM "{name}"; INSERT INTO "{name}" BY NAME {derived.query}'
            )


def _take(connection: duckdb.DuckDBPyConnection, name: str, table: Path | Sequence[Any]) -> None:
    """Add rows that have exactly the columns of a table."""
    if isinstance(table, Path):
        rows = f"read_parquet({_quoted(table)})"
    elif table:
        connection.register("rows", pa.Table.from_pylist(list(table)))
        rows = "rows"
    else:
        return
    wanted, given = (
        {column[0] for column in connection.execute(f"FROM {some} LIMIT 0").description or ()}
        for some in (f'"{name}"', rows)
    )
    if wanted != given:
        raise StoreError(f"no table {name!r}: {sorted(wanted ^ given)} are not in both")
    connection.execute(f'INSERT INTO "{name}" BY NAME FROM {rows}')


def _arrow(values: Any) -> pa.Array:
    if isinstance(values, Joined):
        texts = pa.array(values.texts, pa.large_string()).take(pa.array(values.ids.values))
        lists = pa.LargeListArray.from_arrays(pa.array(values.ids.starts), texts)
        return pc.call_function("binary_join", [lists, pa.scalar(values.gap, pa.large_string())])
    if isinstance(values, Lists):
        return pa.LargeListArray.from_arrays(pa.array(values.starts), _arrow(values.values))
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return pa.array(array, mask=~np.isfinite(array))
    return pa.array(values if array.dtype.kind in "OU" else array)


def _array(column: pa.ChunkedArray) -> np.ndarray | Lists:
    whole = pa.chunked_array(column.chunks, column.type).combine_chunks()
    if not pa.types.is_list(whole.type):
        return whole.to_numpy(zero_copy_only=False)
    ends = np.cumsum(whole.value_lengths().to_numpy(zero_copy_only=False))
    values = whole.flatten().to_numpy(zero_copy_only=False)
    return Lists(values, np.concatenate([[0], ends]).astype(np.int64))


def meta_rows(said: Mapping[str, Any]) -> Table:
    """Rows of the table `meta`."""
    texts = [json.dumps(value, allow_nan=False, sort_keys=True) for value in said.values()]
    return {"key": list(said), "value": texts}


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _damaged(path: Path, error: Exception) -> str:
    said = _first_line(error)
    if "lock on file" in said or "different configuration" in said:
        return f"{str(path)!r} is just being written ({said}): wait for it to be done"
    return f"{str(path)!r} is damaged, or no store of features ({said}): build it again"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
