"""Every data set in a folder as a task, as MIB's data sets lie side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError
from sae_circuits.tasks.files import SUFFIXES, from_file
from sae_circuits.tasks.hugging_face import from_dataset
from sae_circuits.tasks.task import Task


def read_folder(
    model: Any,
    folder: str | Path,
    *,
    split: str = "train",
    n: int | None = None,
    layout: str | None = None,
    counterfactual: str | None = None,
    skip: bool = False,
    prepend_bos: bool = True,
) -> dict[str, Task]:
    """Read every data set of a folder: each file, and each folder, is one.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        folder: it holds files in any layout that `Task.from_file` reads, and folders that
            `Task.from_dataset` reads, such as clones of MIB's data sets; the rest is passed over.
        split: which part of a folder's data set.
        n: how many pairs of each to keep; by default all.
        layout, counterfactual, skip, prepend_bos: see `Task.from_file`.

    Returns:
        The tasks by the names of their files or folders, in the order of the alphabet.

    Raises:
        FileFormatError: there is no such folder, or no data set in it.
        FileFormatError, AlignmentError, TaskError: see `Task.from_file`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileFormatError(f"cannot read {str(folder)!r}: no such folder")
    found: dict[str, Task] = {}
    how = {
        "layout": layout,
        "counterfactual": counterfactual,
        "skip": skip,
        "prepend_bos": prepend_bos,
    }
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found[path.name] = from_dataset(model, path, split=split, **how)
        elif path.suffix.lower() in SUFFIXES:
            found[path.stem] = from_file(model, path, **how)
    if not found:
        raise FileFormatError(
            f"{str(folder)!r} holds no data set: put files in it that end in "
            f"{', '.join(SUFFIXES)}, or folders with a data set each"
        )
    return {name: task if n is None else task[:n] for name, task in found.items()}
