"""Our own: clean, corrupt, answer and, where there are any, wrong answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sae_circuits.errors import FileFormatError
from sae_circuits.tasks.layouts.layout import About, Layout, Row, Written, text
from sae_circuits.tasks.strings import Pair

SEPARATOR = "|"
COLUMNS = ("clean", "corrupt", "answer")


def fits(columns: Collection[str]) -> bool:
    """Tell whether the columns are ours."""
    return set(COLUMNS) <= set(columns)


def read(row: Row, about: About) -> Pair:
    """Read a row; several answers are a list, or joined by "|" in a table."""
    return Pair(
        clean=text(row, "clean"),
        corrupt=text(row, "corrupt"),
        answer=_words(row, "answer", about),
        wrong=_words(row, "wrong", about) if row.get("wrong") else (),
    )


def _words(row: Row, key: str, about: About) -> tuple[str, ...]:
    value = text(row, key).split(SEPARATOR) if about.is_table else row.get(key)
    given = value if isinstance(value, list | tuple) else [value]
    words = tuple(word for word in given if isinstance(word, str) and word)
    if not words or len(words) < len(given):
        raise FileFormatError(f"has {value!r} as {key!r}: it needs text")
    return words


def write(rows: Sequence[Written], name: str) -> list[dict[str, Any]]:
    """Write lists of answers."""
    return [
        {
            "clean": row.clean,
            "corrupt": row.corrupt,
            "answer": list(row.answer),
            "wrong": list(row.wrong),
        }
        for row in rows
    ]


LAYOUT = Layout(
    name="plain",
    columns="clean, corrupt, answer, wrong",
    suffixes=(".csv", ".json", ".jsonl"),
    fits=fits,
    read=read,
    write=write,
)
