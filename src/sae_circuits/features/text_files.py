"""Texts in files: plain text, lines of JSON, and lists in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError
from sae_circuits.tasks.files import decoded

SUFFIXES = (".txt", ".jsonl", ".json")


def read_texts(
    path: Path, *, field: str = "text", lines: bool = False, encoding: str | None = None
) -> list[str]:
    """The texts of one file, but for empty ones.

    Args:
        path: a file whose name ends in .txt, .jsonl (a value a line) or .json (a list).
        field: what holds the text, in JSON's objects; a value that is a text is taken itself.
        lines: whether each line of a .txt file is a text, and not the whole file.
        encoding: such as "latin-1"; by default UTF-8, or what the file's first bytes say.

    Raises:
        FileFormatError: no such file, another kind of file, damage, a value without the field, or
            no text; the message names the file and the line.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix not in SUFFIXES:
        what = "is a folder" if path.is_dir() else "is neither text nor JSON by its name"
        raise FileFormatError(
            f"{path} {what}: give files that end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}; "
            "folders with a data set, and Parquet, are read by Corpus.from_dataset"
        )
    if not path.exists():
        raise FileFormatError(f"cannot read {str(path)!r}: there is no such file")
    text = decoded(path, encoding)
    if suffix == ".txt":
        texts = text.splitlines() if lines else [text]
    else:
        values = _values_by_line(path, text) if suffix == ".jsonl" else _listed(path, text)
        texts = [_text_of(path, where, value, field) for where, value in values]
    if not (found := [text for text in texts if text.strip()]):
        raise FileFormatError(f"{path} holds no text: it is empty, or holds white space alone")
    return found


def _values_by_line(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for i, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {i}", json.loads(line)
            except json.JSONDecodeError as error:
                raise FileFormatError(f"line {i} of {path} is not JSON: {error}") from error


def _listed(path: Path, text: str) -> list[tuple[str, Any]]:
    try:
        values = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, list):
        raise FileFormatError(
            f"{path} holds a {type(values).__name__}: it must hold a list of texts, or of objects "
            "with one each; one object a line goes into a .jsonl file"
        )
    return [(f"entry {i}", value) for i, value in enumerate(values, 1)]


def _text_of(path: Path, where: str, value: Any, field: str) -> str:
    text = value.get(field) if isinstance(value, dict) else value
    if isinstance(text, str):
        return text
    if isinstance(value, dict) and field not in value:
        has = f"has the fields {', '.join(map(repr, value))}, not {field!r}"
        raise FileFormatError(f"{where} of {path} {has}: name the one with the text by field=")
    raise FileFormatError(f"{where} of {path} holds {text!r} where a text is needed")
