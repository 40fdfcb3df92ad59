"""A task from rows, wherever they come from, in any known layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_circuits.errors import AlignmentError, FileFormatError, TaskError
from sae_circuits.tasks import layouts
from sae_circuits.tasks.layouts import About, Layout
from sae_circuits.tasks.strings import Pair, from_pairs, problem, summary, warn_left_out
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a data set.

    Args:
        source: what the data set is called in messages.
        rows: where each row stands, such as "line 3", and what is in it.
        folder: where the file lies, if it is one.
        is_table: whether it is a CSV file, where every value is text.
    """

    source: str
    rows: Sequence[tuple[str, Mapping[str, Any]]]
    folder: Path | None = None
    is_table: bool = False


def from_rows(
    model: Any,
    of: Rows,
    *,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    counterfactual: str | None = None,
    skip: bool = False,
    prepend_bos: bool = True,
    name: str,
) -> Task:
    """Make a task from rows: see `sae_circuits.tasks.files.from_file`.

    Raises:
        FileFormatError: no rows, no known columns, or a row that lacks one.
        AlignmentError: the prompts of a pair differ in token length.
        TaskError: no pair fits the tokenizer, or one does not and `skip` is not set.
    """
    if not of.rows:
        raise FileFormatError(f"{of.source} holds no prompts: give at least one pair")
    rows = [(where, _renamed(row, columns, of.source)) for where, row in of.rows]
    chosen = layouts.find(tuple(rows[0][1]), of.source) if layout is None else layouts.get(layout)
    vocabulary = Vocabulary.of(model)
    about = About(vocabulary, of.folder, of.is_table, counterfactual)
    read = {
        where: _read(chosen, row, about, f"{where} of {of.source}", skip=skip)
        for where, row in rows
    }
    found = [pair for pair in read.values() if isinstance(pair, Pair)]
    vocabulary.learn(text for pair in found for text in (pair.clean, pair.corrupt))
    pairs, left = dict[str, Pair](), dict[str, str]()
    for where, pair in read.items():
        if isinstance(pair, str):
            left[where] = pair
        elif reason := problem(vocabulary, pair, prepend_bos=prepend_bos):
            left[where] = reason
        else:
            pairs[where] = pair
    if left and not (skip and pairs):
        raise _refusal(of.source, left, len(rows), any_fits=bool(pairs))
    warn_left_out(of.source, left, len(rows), callers=3)
    return from_pairs(model, vocabulary, list(pairs.values()), prepend_bos=prepend_bos, name=name)


def _renamed(
    row: Mapping[str, Any], columns: Mapping[str, str] | None, source: str
) -> Mapping[str, Any]:
    if not columns:
        return row
    if missing := [theirs for theirs in columns.values() if theirs not in row]:
        raise FileFormatError(
            f"{source} has no column {missing[0]!r}: it has {', '.join(map(str, row))}"
        )
    return {**row, **{ours: row[theirs] for ours, theirs in columns.items()}}


def _read(
    layout: Layout, row: Mapping[str, Any], about: About, where: str, *, skip: bool
) -> Pair | str:
    try:
        return layout.read(row, about)
    except FileFormatError as error:
        if skip:
            return str(error)
        raise FileFormatError(f"{where} {error}") from error


def _refusal(source: str, left: Mapping[str, str], total: int, *, any_fits: bool) -> TaskError:
    kind = (
        AlignmentError if all("the corrupt prompt" in said for said in left.values()) else TaskError
    )
    if not any_fits:
        return kind(
            f"{source}: none of its {total:,} pairs fits this tokenizer: {summary(left)}; take "
            "data that is made for it"
        )
    return kind(
        f"{source}: {len(left):,} of {total:,} pairs do not fit this tokenizer: {summary(left)}; "
        "mend them, or leave them out with skip=True (--skip)"
    )
