"""MIB's data sets: a prompt with its counterfactuals. (Mueller et al., arXiv 2504.13151).

As on the hub under `mib-bench` and as github.com/aaronmueller/MIB-circuit-track reads them: IOI has
a list of names as choices and says in its metadata who is who, multiple choice and ARC have letters
and an answer key, arithmetic has a label.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sae_circuits.errors import FileFormatError, unknown
from sae_circuits.tasks.layouts.layout import About, Layout, Row, Written, single, text
from sae_circuits.tasks.strings import Pair

SUFFIX = "_counterfactual"
# The benchmark's own choice for IOI, for multiple choice and ARC, and for arithmetic.
CHOICE = ("s2_io_flip", "symbol", "random")


def fits(columns: Collection[str]) -> bool:
    """Tell whether the columns are MIB's."""
    return "prompt" in columns and any(column.endswith(SUFFIX) for column in columns)


def read(row: Row, about: About) -> Pair:
    """Read a row: IOI's wrong answer is the other name, else it is the counterfactual's answer."""
    name = _counterfactual(row, about.counterfactual)
    corrupt = row.get(name)
    if not isinstance(corrupt, Mapping):
        raise FileFormatError(f"has {corrupt!r} as {name!r}: it needs an object with a prompt")
    roles = row.get("metadata")
    if isinstance(roles, Mapping) and roles.get("indirect_object") and roles.get("subject"):
        answer, wrong = text(roles, "indirect_object"), text(roles, "subject")
    else:
        answer, wrong = _answer(row), _answer(corrupt)
    return Pair(text(row, "prompt"), text(corrupt, "prompt"), (answer,), (wrong,))


def _counterfactual(row: Row, asked: str | None) -> str:
    known = [column for column in row if column.endswith(SUFFIX)]
    if asked is not None:
        name = asked if asked.endswith(SUFFIX) else f"{asked}{SUFFIX}"
        if name not in known:
            raise unknown("counterfactual", asked, [each.removesuffix(SUFFIX) for each in known])
        return name
    usual = [name for choice in CHOICE if (name := f"{choice}{SUFFIX}") in known]
    return (usual or known)[0]


def _answer(row: Row) -> str:
    label = row.get("label")
    if label is not None:
        return str(label)
    choices, key = row.get("choices"), row.get("answerKey")
    labels = choices.get("label") if isinstance(choices, Mapping) else choices
    if (
        not isinstance(labels, Sequence)
        or isinstance(labels, str)
        or not isinstance(key, int)
        or not 0 <= key < len(labels)
    ):
        raise FileFormatError(
            f"has {choices!r} as 'choices' and {key!r} as 'answerKey': it needs a label, or "
            "choices and the index of the right one"
        )
    return str(labels[key])


def write(rows: Sequence[Written], name: str) -> list[dict[str, Any]]:
    """Write rows as multiple choice has them, which the benchmark reads with task "mcqa"."""
    single(rows, "mib")
    found = []
    for row in rows:
        words = [*row.answer, *row.wrong]
        choices = {"label": words, "text": words}
        corrupt = {"prompt": row.corrupt, "choices": choices, "answerKey": 1}
        found.append(
            {
                "dataset": name,
                "prompt": row.clean,
                "choices": choices,
                "answerKey": 0,
                f"symbol{SUFFIX}": corrupt,
            }
        )
    return found


LAYOUT = Layout(
    name="mib",
    columns=f"prompt, choices and answerKey or label, ...{SUFFIX}",
    suffixes=(".jsonl", ".json"),
    fits=fits,
    read=read,
    write=write,
)
