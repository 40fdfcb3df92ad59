"""What a layout is, and what readers of rows share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError, TaskError
from sae_circuits.tasks.strings import Pair
from sae_circuits.tasks.vocabulary import Vocabulary

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What a row alone does not tell.

    Args:
        vocabulary: of the tokenizer for which rows are read.
        folder: where the file lies, if it is one.
        is_table: whether the rows come from a CSV file, where every value is text.
        counterfactual: which of several corrupt prompts to take.
    """

    vocabulary: Vocabulary
    folder: Path | None = None
    is_table: bool = False
    counterfactual: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """An example to be written: answers as words that follow the prompt, and as token ids."""

    clean: str
    corrupt: str
    answer: tuple[str, ...]
    wrong: tuple[str, ...]
    answer_ids: tuple[int, ...]
    wrong_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to write examples as rows.

    Args:
        name: what it is called.
        columns: the columns by which it is known, in words.
        suffixes: of files that are written in it, the usual one first.
        fits: tells whether rows with such columns are in it.
        read: makes a pair of a row; raises a `FileFormatError` that says what is wrong with it.
        write: makes the rows of a task of this name.
    """

    name: str
    columns: str
    suffixes: tuple[str, ...]
    fits: Callable[[Collection[str]], bool]
    read: Callable[[Row, About], Pair]
    write: Callable[[Sequence[Written], str], list[dict[str, Any]]]


def text(row: Row, key: str) -> str:
    """Return a column's text.

    Raises:
        FileFormatError: there is none.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise FileFormatError(f"has {value!r} as {key!r}: it needs text")
    return value


def number(row: Row, key: str) -> int:
    """Return a column's whole number, which a table holds as text.

    Raises:
        FileFormatError: there is none.
    """
    value = row.get(key)
    try:
        if isinstance(value, bool) or float(str(value)) != int(float(str(value))):
            raise ValueError(value)
        return int(float(str(value)))  # pandas writes 3.0 in a column with gaps
    except (ValueError, OverflowError) as error:
        raise FileFormatError(f"has {value!r} as {key!r}: it needs a whole number") from error


def single(rows: Sequence[Written], layout: str) -> None:
    """Refuse rows that have more than one right and one wrong answer, or fewer.

    Raises:
        TaskError: for a layout that has room for no other number.
    """
    for i, row in enumerate(rows):
        if (len(row.answer_ids), len(row.wrong_ids)) != (1, 1):
            raise TaskError(
                f"pair {i} has {len(row.answer_ids)} right and {len(row.wrong_ids)} wrong answers, "
                f"and the layout {layout!r} has room for one of each: take the layout 'plain'"
            )
