"""EAP-IG's tables: prompts as text, answers as the token ids of one tokenizer.

The columns are those of the data of Hanna et al., arXiv 2403.17806
(github.com/hannamw/eap-ig-faithfulness), and of the tables in github.com/hannamw/EAP-IG. The ids
hold for the tokenizer for which the table was made, and for no other.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError, TaskError
from sae_circuits.tasks.layouts.layout import About, Layout, Row, Written, number, text
from sae_circuits.tasks.strings import Answer, Pair
from sae_circuits.tasks.vocabulary import Vocabulary

# One right and one wrong id: IOI and coloured objects, fact retrieval, gender bias.
SINGLE = (
    ("correct_idx", "incorrect_idx"),
    ("country_idx", "corrupted_country_idx"),
    ("clean_answer_idx", "corrupted_answer_idx"),
)
SEVERAL = ("answers_idx", "corrupted_answers_idx")  # hypernymy
YEARS = ("correct_idx", "label", "year")  # greater-than: the last two digits, or the whole year
NUMBER = "plural"  # subject-verb agreement: 1 or 0
VERBS = "combined_verb_list.csv"  # with the columns sing and plur, beside that table


def fits(columns: Collection[str]) -> bool:
    """Tell whether the columns are EAP-IG's."""
    return {"clean", "corrupted"} <= set(columns)


def read(row: Row, about: About) -> Pair:
    """Read a row of any of its tasks, by the columns that it has."""
    answer, wrong = _answers(row, about)
    return Pair(text(row, "clean"), text(row, "corrupted"), tuple(answer), tuple(wrong))


def _answers(row: Row, about: About) -> tuple[Iterable[Answer], Iterable[Answer]]:
    for right, wrong in SINGLE:
        if right in row and wrong in row:
            return [number(row, right)], [number(row, wrong)]
    if set(SEVERAL) <= set(row):
        return _ids(row, SEVERAL[0]), _ids(row, SEVERAL[1])
    if NUMBER in row:
        return _verbs(row, about)
    for column in YEARS:
        if column in row:
            start = number(row, column) % 100
            ends = [f"{end:02}" for end in range(100)]
            return ends[start + 1 :], ends[: start + 1]
    raise FileFormatError(
        "has no answers: EAP-IG's tables have them in correct_idx and incorrect_idx, country_idx "
        "and corrupted_country_idx, clean_answer_idx and corrupted_answer_idx, answers_idx and "
        f"corrupted_answers_idx, {', '.join(YEARS)} or {NUMBER}"
    )


def _ids(row: Row, key: str) -> list[int]:
    value = row.get(key)
    try:
        ids = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        ids = None
    if not isinstance(ids, list) or not ids or not all(type(each) is int for each in ids):
        raise FileFormatError(f"has {value!r} as {key!r}: it needs token ids, such as [17, 4]")
    return ids


def _verbs(row: Row, about: About) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
    value = number(row, NUMBER)
    if value not in (0, 1):
        raise FileFormatError(f"has {value} as {NUMBER!r}: it needs 0 or 1")
    path = None if about.folder is None else about.folder / VERBS
    if path is None or not path.is_file():
        raise FileFormatError(
            f"says only whether the subject is plural: put {VERBS}, which comes with EAP-IG's "
            "data, beside the file"
        )
    singular, plural = _verb_list(path, about.vocabulary)
    return (plural, singular) if value else (singular, plural)


def _verb_list(path: Path, vocabulary: Vocabulary) -> tuple[tuple[Answer, ...], ...]:
    """Return the verbs that are one token in both forms: singular, plural."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        verbs = [(verb.get("sing") or "", verb.get("plur") or "") for verb in csv.DictReader(file)]
    kept = [pair for pair in verbs if all(form and vocabulary.is_token(form) for form in pair)]
    if not kept:
        raise FileFormatError(f"finds no verb in {str(path)!r} that is one token in both forms")
    return tuple(tuple(f" {form}" for form in forms) for forms in zip(*kept, strict=True))


def write(rows: Sequence[Written], name: str) -> list[dict[str, Any]]:
    """Write one right and one wrong id as for IOI, and several as for hypernymy."""
    for i, row in enumerate(rows):
        if not row.wrong_ids:
            raise TaskError(
                f"pair {i} has no wrong answer, which the layout 'eap-ig' needs: take 'plain'"
            )
    one = all(len(row.answer_ids) == len(row.wrong_ids) == 1 for row in rows)
    right, wrong = SINGLE[0] if one else SEVERAL
    return [
        {
            "clean": row.clean,
            "corrupted": row.corrupt,
            right: row.answer_ids[0] if one else str(list(row.answer_ids)),
            wrong: row.wrong_ids[0] if one else str(list(row.wrong_ids)),
        }
        for row in rows
    ]


LAYOUT = Layout(
    name="eap-ig",
    columns="clean, corrupted, correct_idx, incorrect_idx",
    suffixes=(".csv",),
    fits=fits,
    read=read,
    write=write,
)
