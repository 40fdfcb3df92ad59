"""Feature-circuits' lines of JSON: prefixes and answers. (Marks et al., 2403.19647).

As in github.com/saprmarks/feature-circuits, whose files hold one object a line.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sae_circuits.tasks.layouts.layout import About, Layout, Row, Written, single, text
from sae_circuits.tasks.strings import Pair

COLUMNS = ("clean_prefix", "patch_prefix", "clean_answer", "patch_answer")


def fits(columns: Collection[str]) -> bool:
    """Tell whether the columns are those of feature-circuits."""
    return set(COLUMNS) <= set(columns)


def read(row: Row, about: About) -> Pair:
    """Read a row: the answer of the patch prefix is the wrong one."""
    clean, corrupt, answer, wrong = (text(row, column) for column in COLUMNS)
    return Pair(clean, corrupt, (answer,), (wrong,))


def write(rows: Sequence[Written], name: str) -> list[dict[str, Any]]:
    """Write rows whose case is the task's name."""
    single(rows, "feature-circuits")
    return [
        {
            "clean_prefix": row.clean,
            "patch_prefix": row.corrupt,
            "clean_answer": row.answer[0],
            "patch_answer": row.wrong[0],
            "case": name,
        }
        for row in rows
    ]


LAYOUT = Layout(
    name="feature-circuits",
    columns=", ".join(COLUMNS),
    suffixes=(".jsonl", ".json"),
    fits=fits,
    read=read,
    write=write,
)
