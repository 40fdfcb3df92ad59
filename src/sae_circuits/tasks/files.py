"""A task from a file of prompts: CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError
from sae_circuits.tasks.strings import from_strings
from sae_circuits.tasks.task import Task

_COLUMNS = ("clean", "corrupt", "answer")
_SEPARATOR = "|"


def from_file(model: Any, path: str | Path, *, prepend_bos: bool = True) -> Task:
    """Make a task from a file, named after it.

    A CSV file has the columns clean, corrupt, answer and, if it likes, wrong, with several
    answers joined by "|". A JSON file is a list of objects with those keys; several answers are a
    list. Answers are as in `Task.from_strings`.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        path: a file whose name ends in .csv or .json, in UTF-8.
        prepend_bos: whether prompts begin with the tokenizer's beginning-of-sequence token.

    Raises:
        FileFormatError: another kind of file, no such columns, a row that lacks one, or damage.
        FileNotFoundError: there is no such file.
        TaskError: see `Task.from_strings`.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".json": _read_json}
    if path.suffix.lower() not in readers:
        raise FileFormatError(
            f"{path} is neither a CSV nor a JSON file: name it .csv or .json, after what it holds"
        )
    try:
        rows = readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not UTF-8 text: {error}") from error
    has_wrong = _check(path, rows)
    return from_strings(
        model,
        [row["clean"] for row in rows],
        [row["corrupt"] for row in rows],
        answer=[row["answer"] for row in rows],
        wrong=[row.get("wrong") or [] for row in rows] if has_wrong else None,
        prepend_bos=prepend_bos,
        name=path.stem,
    )


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        for key in ("answer", "wrong"):
            if row.get(key):
                row[key] = row[key].split(_SEPARATOR)
    return rows


def _read_json(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FileFormatError(f"{path} must hold a list of objects with keys {', '.join(_COLUMNS)}")
    return rows


def _check(path: Path, rows: Sequence[dict[str, Any]]) -> bool:
    """Refuse rows that lack something, and tell whether any has wrong answers."""
    if not rows:
        raise FileFormatError(f"{path} holds no prompts: give at least one pair")
    for number, row in enumerate(rows, start=1):
        for key in (*_COLUMNS, "wrong"):
            value = row.get(key)
            words = value if isinstance(value, list) and key in ("answer", "wrong") else [value]
            if key == "wrong" and not value:
                continue
            if not words or not all(isinstance(word, str) and word for word in words):
                raise FileFormatError(
                    f"example {number} of {path} has {value!r} as {key!r}: it needs text "
                    f"in {', '.join(_COLUMNS)}"
                )
    return any(row.get("wrong") for row in rows)
