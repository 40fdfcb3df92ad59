"""A task's prompts and answers as a file, in any layout that `Task.from_file` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import OutputError, TaskError
from sae_circuits.tasks import Task
from sae_circuits.tasks.layouts import Layout, Written, get
from sae_circuits.tasks.layouts.plain import SEPARATOR
from sae_circuits.tasks.strings import answer_word
from sae_circuits.tasks.vocabulary import Vocabulary


def save_task(task: Task, path: str | Path, *, model: Any = None, layout: str = "plain") -> Path:
    """Write a task's pairs as text, whole or not at all.

    Args:
        task: made from text.
        path: a file whose name ends as the layout asks: .csv, .json or .jsonl.
        model: a model with a `.tokenizer`, or a tokenizer, that says answers as words; `eap-ig`
            writes token ids and needs none.
        layout: `plain`, `eap-ig`, `mib` or `feature-circuits`.

    Raises:
        UnknownName: there is no such layout.
        OutputError: the layout has no such files, or the place cannot be written.
        TaskError: the task has no text, reads its logits before the prompt's end, or has more
            answers than the layout has room for.

    Example:
        >>> import sae_circuits as sc, tempfile, pathlib
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.facts(model, n=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = task.save(pathlib.Path(folder) / "facts.csv", layout="eap-ig")
        ...     again = sc.Task.from_file(model, path)
        >>> again.fingerprint == task.fingerprint
        True
    """
    path, chosen = Path(path), get(layout)
    suffix = path.suffix.lower()
    if suffix not in chosen.suffixes:
        raise OutputError(
            f"cannot write {str(path)!r} in the layout {layout!r}: its files end in "
            f"{' or '.join(chosen.suffixes)}"
        )
    rows = chosen.write(_rows(task, model, chosen), task.name)
    return write_whole(path, _table(rows) if suffix == ".csv" else _json(rows, chosen, suffix))


def _rows(task: Task, model: Any, layout: Layout) -> list[Written]:
    if not task.clean_text:
        raise TaskError(
            f"task {task.name!r} was made from tokens and has no text to write: make it with "
            "Task.from_strings"
        )
    if bool((task.position != task.lengths - 1).any()):
        raise TaskError(
            f"task {task.name!r} reads its logits before a prompt's last token, and no layout has "
            "room for that"
        )
    with_words = layout.name != "eap-ig"
    if with_words and model is None:
        raise TaskError(
            f"the layout {layout.name!r} writes answers as words: give the model whose tokenizer "
            "says them"
        )
    vocabulary = Vocabulary.of(model) if with_words else None
    found = []
    for i, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        right, wrong = (
            tuple(token for token in ids[i].tolist() if token >= 0)
            for ids in (task.answer, task.wrong)
        )
        answer, others = (_words(vocabulary, clean, ids) for ids in (right, wrong))
        found.append(Written(clean, corrupt, answer, others, right, wrong))
    return found


def _words(vocabulary: Vocabulary | None, prompt: str, ids: Sequence[int]) -> tuple[str, ...]:
    if vocabulary is None:
        return ()
    return tuple(answer_word(vocabulary, prompt, token) for token in ids)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    if any(SEPARATOR in word for word in value):
        raise TaskError(
            f"the answers {value!r} hold the sign {SEPARATOR!r} that joins answers in a CSV file: "
            "write .json or .jsonl"
        )
    return SEPARATOR.join(value)


def _json(rows: Sequence[dict[str, Any]], layout: Layout, suffix: str) -> str:
    # Feature-circuits' own files end in .json and hold one object a line.
    if suffix == ".jsonl" or layout.name == "feature-circuits":
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"
