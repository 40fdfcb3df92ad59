"""The tables of a store in other formats, out and in: Parquet files, and strict JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_circuits.disk.atomic import ready_folder, write_whole
from sae_circuits.errors import OptionError, StoreError
from sae_circuits.features.store.database import Database, meta_rows
from sae_circuits.features.store.schema import TABLES


def export(database: Database, path: str | Path, features: Sequence[int] | None = None) -> Path:
    """Write all tables to one file of strict JSON (`.json`), or a folder of Parquet files.

    Args:
        features: only what is known of these; for JSON.

    Raises:
        OptionError: some features, and Parquet.
        OutputError: the place cannot be written.
    """
    path = Path(path)
    if path.suffix == ".json":
        return _to_json(database, path, features)
    if features is not None:
        raise OptionError(f"features={features!r} is for JSON: {path.name!r} does not end in .json")
    folder = ready_folder(path)
    for name in TABLES:
        database.copy(name, folder / f"{name}.parquet")
    return folder


def _to_json(database: Database, path: Path, features: Sequence[int] | None) -> Path:
    said: dict[str, Any] = {"meta": database.meta()}
    for name, columns in TABLES.items():
        some = features is not None and "feature INTEGER" in columns
        where = " WHERE feature IN (SELECT unnest(?))" if some else ""
        if name != "meta":
            said[name] = database.rows(f'SELECT * FROM "{name}"{where}', [features] if some else [])
    return write_whole(path, json.dumps(said, allow_nan=False, ensure_ascii=False) + "\n")


def imported(path: str | Path, into: Path) -> Database:
    """Make a database of what `export` wrote of all features.

    Raises:
        StoreError: files that are missing, damaged or of another kind, or of some features only.
        OutputError: the place cannot be written.
    """
    path = Path(path)
    try:
        tables = _files(path) if path.is_dir() else _read(path)
        found = Database.of_tables(into, tables)
    except StoreError as error:
        raise StoreError(f"{str(path)!r} is no export ({error}): export it again") from error
    held = found.rows("SELECT count(*) AS n FROM features")[0]["n"]
    if held != (n := found.meta()["features"]):
        found.close()
        into.unlink()
        raise StoreError(f"{str(path)!r} holds {held} of {n} features: export all of them")
    return found


def _files(folder: Path) -> Mapping[str, Path]:
    """The Parquet file of each table."""
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    for file in files.values():
        if not file.is_file():
            raise StoreError(f"no {file.name!r}")
    return files


def _read(file: Path) -> Mapping[str, Sequence[Any]]:
    """The rows of each table."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refused)
    except (OSError, ValueError) as error:
        raise StoreError(str(error)) from error
    if not isinstance(said, dict) or said.keys() != TABLES.keys():
        raise StoreError(f"it has to hold {', '.join(TABLES)}, and no more")
    if not isinstance(said["meta"], dict):
        raise StoreError("its meta is no record")
    meta = meta_rows(said["meta"])
    rows = [{"key": k, "value": v} for k, v in zip(meta["key"], meta["value"], strict=True)]
    return {**said, "meta": rows}


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
