"""A task from a data set of Hugging Face's `datasets`: in memory, in a folder, or by name."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from sae_circuits.errors import TaskError, unknown
from sae_circuits.tasks.rows import Rows, from_rows
from sae_circuits.tasks.task import Task

MCQA = "4_answer_choices"  # which of its configurations MIB's circuit track takes
_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk leaves


def from_dataset(
    model: Any,
    dataset: Any,
    *,
    split: str = "train",
    config: str | None = None,
    n: int | None = None,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    counterfactual: str | None = None,
    skip: bool = False,
    prepend_bos: bool = True,
    name: str | None = None,
) -> Task:
    """Make a task from a data set of Hugging Face's `datasets`.

    Args:
        model: a model with a `.tokenizer`, or a tokenizer.
        dataset: a `Dataset`, a `DatasetDict`, or any rows as mappings; a folder that `save_to_disk`
            wrote or that holds files of a data set; or a name on the hub, such as "mib-bench/ioi",
            which needs the network or the hub's cache.
        split: which part, where there are several.
        config: which configuration; in a folder that has MIB's multiple choice, by default
            "4_answer_choices", as the benchmark takes it.
        n: how many rows to read; by default all.
        layout, columns, counterfactual, skip, prepend_bos: see `Task.from_file`.
        name: what the task is called; by default after the data set.

    Raises:
        UnknownName: there is no such split.
        FileFormatError, AlignmentError: see `Task.from_file`.
        TaskError: the data set cannot be loaded, or see `Task.from_file`.

    Warns:
        PairsLeftOut: says which pairs were left out, and why.

    Example:
        >>> import sae_circuits as sc
        >>> from datasets import Dataset
        >>> row = {"clean_prefix": "The keys", "patch_prefix": "The key"}
        >>> rows = Dataset.from_list([{**row, "clean_answer": " are", "patch_answer": " is"}])
        >>> sc.Task.from_dataset(sc.load_model("demo"), rows, name="keys")
        Task('keys', 1 pair of 3 tokens, first: 'The keys' / 'The key')
    """
    source, title, found = opened(dataset, split, config)
    rows = [(f"row {i}", row) for i, row in enumerate(islice(iter(found), n))]
    return from_rows(
        model,
        Rows(source, rows),
        layout=layout,
        columns=columns,
        counterfactual=counterfactual,
        skip=skip,
        prepend_bos=prepend_bos,
        name=name or title,
    )


def opened(
    dataset: Any, split: str, config: str | None, *, streaming: bool = False
) -> tuple[str, str, Any]:
    """Take one split of a data set: what it is called in messages, its title, and its rows.

    Args:
        dataset, split, config: see `from_dataset`.
        streaming: read a data set of the hub as it arrives, and not all of it first.

    Raises:
        UnknownName: there is no such split.
        TaskError: the data set cannot be loaded.
    """
    if isinstance(dataset, str | Path):
        source, title = str(dataset), Path(dataset).stem
        found = load(dataset, split, config, streaming=streaming)
    else:
        source, title, found = "the data set", "dataset", dataset
    if isinstance(found, Mapping):
        if split not in found:
            raise unknown("split", split, map(str, found))
        found = found[split]
    return source, title, found


def load(place: str | Path, split: str, config: str | None, *, streaming: bool = False) -> Any:
    """Load a data set from a folder, a file of Parquet, or the hub.

    Raises:
        TaskError: it cannot be loaded; the message says what to do.
    """
    import datasets

    path = Path(place)
    if path.is_dir() and (path / (config or MCQA)).is_dir():
        path, config = path / (config or MCQA), None
    try:
        if any((path / name).is_file() for name in _SAVED):
            return datasets.load_from_disk(str(path))
        if path.is_file():
            return datasets.load_dataset("parquet", data_files=str(path), split="train")
        where = str(path if path.is_dir() else place)
        return datasets.load_dataset(where, config, split=split, streaming=streaming)
    except Exception as error:  # of many kinds: the network's, the hub's, pyarrow's
        reason = str(error).partition("\n")[0]
        raise TaskError(
            f"cannot load the data set {str(place)!r} with split={split!r}, config={config!r}: "
            f"{type(error).__name__}: {reason}; check its name, its split and the network, or pass "
            "a Dataset that you hold"
        ) from error
