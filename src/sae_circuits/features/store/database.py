"""`Database`: the tables of a store in one DuckDB file, and in Parquet and JSON."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from sae_circuits.errors import CircuitsError, OutputError, StoreError
from sae_circuits.features.store.schema import CREATE, FORMAT, SCHEMA, TABLES
from sae_circuits.io.atomic import ready_folder, write_whole

Table = Mapping[str, Any]
"""Columns by name: arrays, or `Lists`."""


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


@dataclass(frozen=True, eq=False)
class Database:
    """A DuckDB file of ours, which any number of readers can have open at a time."""

    path: Path
    _reader: list[duckdb.DuckDBPyConnection] = field(default_factory=list, repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Database:
        """Open a file.

        Raises:
            StoreError: no such file, a damaged one, or one of a newer version.
        """
        found = cls(Path(path))
        if not found.path.is_file():
            raise StoreError(f"no store at {str(path)!r}: build one, by FeatureDictionary.build")
        try:
            said = found.meta()
        except StoreError:
            raise
        except duckdb.Error as error:
            raise StoreError(
                f"{str(path)!r} is damaged, or no store of features ({_first_line(error)}): build "
                "it again"
            ) from error
        if said.get("format") != FORMAT:
            raise StoreError(f"{str(path)!r} is a database, but no store of features")
        if said.get("schema") != SCHEMA:
            raise StoreError(
                f"{str(path)!r} is of schema {said.get('schema')}, and this version reads "
                f"{SCHEMA}: update sae-circuits, or build the store again"
            )
        return found

    # -- asking ----------------------------------------------------------------------------------

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """What a query gives; `?` in it stands for a parameter.

        Raises:
            StoreError: what DuckDB finds wrong with it.
        """
        with self.reading() as connection:
            try:
                return connection.execute(sql, list(parameters)).df()
            except duckdb.Error as error:
                raise StoreError(f"{_first_line(error)}\nin: {sql.strip()}") from error

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """What a query gives, row by row, in plain values."""
        with self.reading() as connection:
            found = connection.execute(sql, list(parameters))
            keys = [column[0] for column in found.description or ()]
            return [dict(zip(keys, row, strict=True)) for row in found.fetchall()]

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that can only read, kept open for the next question."""
        if not self._reader:
            self._reader.append(_connected(self.path, read_only=True))
        cursor = self._reader[0].cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        while self._reader:
            self._reader.pop().close()

    def meta(self) -> dict[str, Any]:
        """The record of the store."""
        return {row["key"]: json.loads(row["value"]) for row in self.rows("FROM meta")}

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
        path = Path(path)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with _writing(part) as connection:
                connection.execute(CREATE)
                for name, table in tables:
                    _insert(connection, name, table)
                _insert(connection, "meta", _meta({"format": FORMAT, "schema": SCHEMA, **meta}))
            os.replace(part, path)
        except (duckdb.Error, OSError) as error:
            if isinstance(error, CircuitsError):
                raise
            raise OutputError(f"cannot write {str(path)!r}: {_first_line(error)}") from error
        finally:
            for left in (part, part.with_name(part.name + ".wal")):
                left.unlink(missing_ok=True)
        return cls(path)

    def replace(self, name: str, table: Table, where: str, parameters: Sequence[Any]) -> None:
        """Put rows in the place of those that a condition names, all of them or none.

        Raises:
            OutputError: somebody has the store open, or it cannot be written.
        """
        self.close()
        try:
            with _writing(self.path) as connection:
                connection.execute("BEGIN")
                connection.execute(f'DELETE FROM "{name}" WHERE {where}', list(parameters))
                _insert(connection, name, table)
                connection.execute("COMMIT")
        except (duckdb.Error, OSError) as error:
            raise OutputError(
                f"cannot write {str(self.path)!r}: {_first_line(error)}; close what has it open"
            ) from error

    # -- other formats ---------------------------------------------------------------------------

    def to_parquet(self, folder: str | Path) -> Path:
        """Write every table to a Parquet file of its name.

        Raises:
            OutputError: the folder cannot be written.
        """
        folder = ready_folder(folder)
        with self.reading() as connection:
            for name in TABLES:
                part = folder / f".{name}.part"
                try:
                    connection.execute(f'COPY "{name}" TO {_quoted(part)} (FORMAT parquet)')
                    os.replace(part, folder / f"{name}.parquet")
                except (duckdb.Error, OSError) as error:
                    raise OutputError(f"cannot write {name}: {_first_line(error)}") from error
                finally:
                    part.unlink(missing_ok=True)
        return folder

    @classmethod
    def from_parquet(cls, folder: str | Path, path: str | Path) -> Database:
        """Make a store of the files that `to_parquet` wrote.

        Raises:
            StoreError: a file that is missing, or has other columns.
            OutputError: the place cannot be written.
        """
        folder, path = Path(folder), Path(path)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with _writing(part) as connection:
                connection.execute(CREATE)
                for name in TABLES:
                    file = folder / f"{name}.parquet"
                    if not file.is_file():
                        raise StoreError(f"no {file.name!r} in {str(folder)!r}: export it again")
                    try:
                        connection.execute(f'INSERT INTO "{name}" BY NAME FROM {_quoted(file)}')
                    except duckdb.Error as error:
                        raise StoreError(
                            f"{str(file)!r} holds no table {name!r}: {_first_line(error)}"
                        ) from error
            cls.open(part).close()
            os.replace(part, path)
        finally:
            for left in (part, part.with_name(part.name + ".wal")):
                left.unlink(missing_ok=True)
        return cls(path)

    def to_json(self, path: str | Path, features: Sequence[int] | None = None) -> Path:
        """Write all tables, or what they hold of some features, to one file of strict JSON.

        Raises:
            OutputError: the place cannot be written.
        """
        ids = None if features is None else [int(f) for f in features]
        said = {name: self._plain(name, ids) for name in TABLES if name != "meta"}
        text = json.dumps({"meta": self.meta(), **said}, allow_nan=False, ensure_ascii=False)
        return write_whole(path, text + "\n")

    def _plain(self, name: str, features: list[int] | None) -> list[dict[str, Any]]:
        """The rows of a table in plain values."""
        some = features is not None and "feature INTEGER" in TABLES[name]
        sql = f'SELECT * FROM "{name}"' + (" WHERE feature IN (SELECT unnest(?))" if some else "")
        return self.rows(sql, [features] if some else [])


@contextmanager
def _writing(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = _connected(path)
    try:
        yield connection
    finally:
        connection.close()


def _connected(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path), read_only=read_only)
    connection.execute("SET enable_progress_bar = false")
    return connection


def _insert(connection: duckdb.DuckDBPyConnection, name: str, table: Table) -> None:
    """Add rows; NaN and infinity become NULL."""
    rows = pa.table({column: _arrow(values) for column, values in table.items()})
    connection.register("rows", rows)
    connection.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM rows')
    connection.unregister("rows")


def _arrow(values: Any) -> pa.Array:
    if isinstance(values, Lists):
        return pa.LargeListArray.from_arrays(pa.array(values.starts), _arrow(values.values))
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return pa.array(array, mask=~np.isfinite(array))
    return pa.array(values if array.dtype.kind in "OU" else array)


def _meta(said: Mapping[str, Any]) -> Table:
    texts = [json.dumps(value, allow_nan=False, sort_keys=True) for value in said.values()]
    return {"key": list(said), "value": texts}


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
