"""A task from a file of prompts: CSV, JSON, lines of JSON or Parquet, in any known layout."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError
from sae_circuits.tasks.rows import Rows, from_rows
from sae_circuits.tasks.task import Task

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")
# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def from_file(
    model: Any,
    path: str | Path,
    *,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    counterfactual: str | None = None,
    encoding: str | None = None,
    skip: bool = False,
    prepend_bos: bool = True,
) -> Task:
    """Make a task from a file, named after it.

    The layout is told by the columns: `plain` has clean, corrupt, answer and, if it likes, wrong,
    with several answers as a list, or joined by "|" in a CSV file; `eap-ig`, `mib` and
    `feature-circuits` are as those projects publish their data. Answers are as in
    `Task.from_strings`.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        path: a file whose name ends in .csv, .json (a list, or one object a line), .jsonl or
            .parquet, or a folder with a data set (see `Task.from_dataset`).
        layout: `plain`, `eap-ig`, `mib` or `feature-circuits`, where the columns are not to tell.
        columns: names in the file for columns of the layout, such as {"clean": "sentence"}.
        counterfactual: which of MIB's corrupt prompts to take, such as "abc".
        encoding: of the text, such as "latin-1"; by default UTF-8, or what the file's first bytes
            say.
        skip: leave out pairs that do not fit the tokenizer, with a warning.
        prepend_bos: whether prompts begin with the tokenizer's beginning-of-sequence token.

    Raises:
        FileFormatError: another kind of file, no such columns, a row that lacks one, or damage;
            the message names the line.
        FileNotFoundError: there is no such file.
        AlignmentError: the prompts of a pair differ in token length.
        TaskError: no pair fits the tokenizer, or one does not and `skip` is not set.

    Warns:
        PairsLeftOut: says which pairs were left out, and why.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() == ".parquet":
        from sae_circuits.tasks.hugging_face import from_dataset

        return from_dataset(
            model,
            path,
            layout=layout,
            columns=columns,
            counterfactual=counterfactual,
            skip=skip,
            prepend_bos=prepend_bos,
        )
    return from_rows(
        model,
        read_rows(path, encoding),
        layout=layout,
        columns=columns,
        counterfactual=counterfactual,
        skip=skip,
        prepend_bos=prepend_bos,
        name=path.stem,
    )


def read_rows(path: Path, encoding: str | None = None) -> Rows:
    """Read a file's rows, each with where it stands.

    Raises:
        FileFormatError: another kind of file, or damage.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FileFormatError(
            f"{path} is neither a CSV nor a JSON file: name it {', '.join(SUFFIXES[:-1])} or "
            f"{SUFFIXES[-1]}, after what it holds"
        )
    text = decoded(path, encoding)
    if suffix == ".csv":
        rows = _table(path, text)
    elif text.lstrip().startswith("["):
        rows = _list(path, text)
    else:
        rows = _lines(path, text)
    return Rows(str(path), rows, folder=path.parent, is_table=suffix == ".csv")


def decoded(path: Path, encoding: str | None = None) -> str:
    """Return a file's text.

    Raises:
        FileFormatError: it is in another encoding; the message names the line and the remedy.
    """
    data = path.read_bytes()
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding or marked)
    except LookupError as error:
        raise FileFormatError(f"there is no encoding {encoding!r}: try 'latin-1'") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = "UTF-8" if (encoding or marked).startswith("utf-8") else encoding or marked
        raise FileFormatError(
            f"{path} is not {what} text: line {line} has the byte 0x{data[error.start]:02x}; save "
            "it as UTF-8, or say what it is, as with encoding='latin-1'"
        ) from error
    if "\0" in text:
        raise FileFormatError(
            f"{path} is not UTF-8 text: line {text[: text.index(chr(0))].count(chr(10)) + 1} has "
            "the byte 0x00; save it as UTF-8, or say what it is, as with encoding='utf-16-le'"
        )
    return text


def _table(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row:
                raise FileFormatError(
                    f"line {reader.line_num} of {path} has more values than the {len(row) - 1} "
                    "columns: put texts with commas between quotation marks"
                )
            rows.append((f"line {reader.line_num}", row))
    except csv.Error as error:
        raise FileFormatError(f"{path} is not CSV after line {reader.line_num}: {error}") from error
    return rows


def _list(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    return [(f"example {i}", _object(path, f"example {i}", row)) for i, row in enumerate(rows, 1)]


def _lines(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for i, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append((f"line {i}", _object(path, f"line {i}", json.loads(line))))
            except json.JSONDecodeError as error:
                raise FileFormatError(
                    f"line {i} of {path} is not JSON: {error}; a file holds a list of objects, or "
                    "one object a line"
                ) from error
    return rows


def _object(path: Path, where: str, row: object) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise FileFormatError(
            f"{where} of {path} is {row!r}: it must hold a list of objects with keys such as "
            "clean, corrupt, answer"
        )
    return row
