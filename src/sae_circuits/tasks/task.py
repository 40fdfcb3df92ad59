"""A task: clean and corrupt prompts, position by position, with right and wrong answers."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.errors import ContextError, TaskError
from sae_circuits.sizes import Memory
from sae_circuits.tasks.align import NO_ANSWER, check_pairs, left_align
from sae_circuits.tasks.ids import Ids, as_ids, as_mask

if TYPE_CHECKING:
    from sae_circuits.evaluation.worth import Worth

_TEXTS = ("clean_text", "corrupt_text")


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Pairs of prompts that differ in what an answer hangs on.

    Make one with a builder (`tasks.ioi`), or with `from_tokens`, `from_strings`, `from_file` or
    `from_dataset`.

    Args:
        name: what it is called.
        clean, corrupt: token ids, real tokens first, padding behind.
        lengths: real tokens of each pair.
        answer: ids of the right answers, rows of unequal size filled with -1.
        wrong: ids of the wrong answers, likewise; no column at all where there are none.
        position: index of the token whose logits are read.
        clean_text, corrupt_text: the prompts as text, where they came as text.

    Raises:
        TaskError: there is no example, an answer is missing or negative, or a position lies
            outside its prompt.
    """

    name: str
    clean: Int64[Tensor, "n pos"]
    corrupt: Int64[Tensor, "n pos"]
    lengths: Int64[Tensor, " n"]
    answer: Int64[Tensor, "n k"]
    wrong: Int64[Tensor, "n j"]
    position: Int64[Tensor, " n"]
    clean_text: tuple[str, ...] = ()
    corrupt_text: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.clean):
            raise TaskError(f"task {self.name!r} is empty: it needs at least one pair of prompts")
        _check_answers("answer", self.answer)
        _check_answers("wrong", self.wrong)
        if (missing := (self.answer < 0).all(-1).nonzero()).numel():
            raise TaskError(f"pair {int(missing[0])} has no answer")
        outside = ((self.position < 0) | (self.position >= self.lengths)).nonzero().flatten()
        if outside.numel():
            i = int(outside[0])
            raise TaskError(
                f"position {int(self.position[i])} of pair {i} lies outside its prompt of "
                f"{int(self.lengths[i])} tokens: take 0 to {int(self.lengths[i]) - 1}"
            )

    # -- making one ------------------------------------------------------------------------------

    @classmethod
    def from_tokens(
        cls,
        clean: Ids,
        corrupt: Ids,
        *,
        answer: Ids,
        wrong: Ids | None = None,
        mask: Ids | None = None,
        corrupt_mask: Ids | None = None,
        position: Ids | None = None,
        name: str = "tokens",
    ) -> Task:
        """Make a task from token ids.

        Args:
            clean, corrupt: int64 token ids `[n, pos]`, padded on either side, or not at all.
            answer, wrong: int64, one id a pair, `[n]`, or several, `[n, k]`, filled with -1.
            mask: true at the clean prompts' real tokens; without it, all are real.
            corrupt_mask: the same for the corrupt prompts; without it, `mask`.
            position: index `[n]` of the token whose logits are read, counted from the prompt's
                first real one; without it, the last.
            name: what the task is called.

        All may be tensors, arrays or lists.

        Raises:
            AlignmentError: a pair's two prompts differ in length.
            TaskError: shapes do not fit, a mask has a hole, or what `Task` itself refuses.

        >>> task = Task.from_tokens([[1, 5, 6]], [[1, 7, 6]], answer=[5])
        >>> task.lengths.tolist(), task.position.tolist(), task.answer.tolist()
        ([3], [2], [[5]])
        """
        clean = as_ids("clean", clean, dims=(2,))
        corrupt = as_ids("corrupt", corrupt, dims=(2,), n=len(clean))
        answer = as_ids("answer", answer, dims=(1, 2), n=len(clean))
        wrong = None if wrong is None else as_ids("wrong", wrong, dims=(1, 2), n=len(clean))
        if position is not None:
            position = as_ids("position", position, dims=(1,), n=len(clean))
        mask, corrupt_mask = as_mask(mask), as_mask(corrupt_mask)
        if not len(clean):
            raise TaskError(f"task {name!r} is empty: it needs at least one pair of prompts")
        tokens, lengths = left_align(clean, mask)
        others, other_lengths = left_align(corrupt, mask if corrupt_mask is None else corrupt_mask)
        check_pairs(lengths, other_lengths, tokens, others)
        if min(int(tokens.min()), int(others.min())) < 0:
            raise TaskError("a prompt has a token id below 0: if it is padding, give a mask")
        return cls(
            name=name,
            clean=tokens,
            corrupt=others,
            lengths=lengths,
            answer=_columns(answer),
            wrong=answer.new_empty(len(clean), 0) if wrong is None else _columns(wrong),
            position=lengths - 1 if position is None else position,
        )

    @classmethod
    def from_strings(
        cls,
        model: Any,
        clean: Sequence[str],
        corrupt: Sequence[str],
        *,
        answer: Sequence[str | Sequence[str]],
        wrong: Sequence[str | Sequence[str]] | None = None,
        prepend_bos: bool = True,
        name: str = "strings",
    ) -> Task:
        """Make a task from two lists of prompts: see `sae_circuits.tasks.strings.from_strings`."""
        from sae_circuits.tasks.strings import from_strings

        return from_strings(
            model, clean, corrupt, answer=answer, wrong=wrong, prepend_bos=prepend_bos, name=name
        )

    @classmethod
    def from_file(
        cls,
        model: Any,
        path: str | Path,
        *,
        layout: str | None = None,
        columns: Mapping[str, str] | None = None,
        counterfactual: str | None = None,
        encoding: str | None = None,
        skip: bool = False,
        prepend_bos: bool = True,
    ) -> Task:
        """Make a task from a file: see `sae_circuits.tasks.files.from_file`."""
        from sae_circuits.tasks.files import from_file

        return from_file(
            model,
            path,
            layout=layout,
            columns=columns,
            counterfactual=counterfactual,
            encoding=encoding,
            skip=skip,
            prepend_bos=prepend_bos,
        )

    @classmethod
    def from_dataset(
        cls,
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
        """Make a task from a data set: see `sae_circuits.tasks.hugging_face.from_dataset`."""
        from sae_circuits.tasks.hugging_face import from_dataset

        return from_dataset(
            model,
            dataset,
            split=split,
            config=config,
            n=n,
            layout=layout,
            columns=columns,
            counterfactual=counterfactual,
            skip=skip,
            prepend_bos=prepend_bos,
            name=name,
        )

    # -- taking it apart -------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Task:
        """Take some pairs, as a task no wider than they need.

        Raises:
            TaskError: nothing is taken.
            IndexError: there is no such pair.
        """
        every = torch.arange(len(self), device=self.clean.device)
        rows = every[list(index) if isinstance(index, tuple) else index].reshape(-1)
        if not len(rows):
            raise TaskError(f"{index!r} takes none of the {len(self)} pairs of task {self.name!r}")
        width = int(self.lengths[rows].max())
        texts = {what: getattr(self, what) for what in _TEXTS}
        return replace(
            self,
            clean=self.clean[rows, :width],
            corrupt=self.corrupt[rows, :width],
            lengths=self.lengths[rows],
            answer=self.answer[rows],
            wrong=self.wrong[rows],
            position=self.position[rows],
            **{what: tuple(text[i] for i in rows.tolist()) for what, text in texts.items() if text},
        )

    def __iter__(self) -> Iterator[Task]:
        return self.batches(1)

    def batches(self, size: int) -> Iterator[Task]:
        """Yield the pairs in order, some at a time, each batch as wide as its longest prompt.

        Raises:
            TaskError: the size is not positive.
        """
        if size < 1:
            raise TaskError(f"a batch of {size} pairs is empty: take at least 1")
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def describe(self, start: int, stop: int) -> str:
        """Which pairs some are, and the first of their prompts where it came as text."""
        text = f" ({self.clean_text[start]!r}, ...)" if self.clean_text else ""
        return f"examples {start} to {stop - 1}{text}"

    def swapped(self) -> Task:
        """Exchange clean and corrupt prompts, and keep the answers."""
        return replace(
            self,
            clean=self.corrupt,
            corrupt=self.clean,
            clean_text=self.corrupt_text,
            corrupt_text=self.clean_text,
        )

    def to(self, device: torch.device | str) -> Task:
        """Move the tensors to a device."""
        return replace(self, **{name: value.to(device) for name, value in self._tensors()})

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), Tensor):
                yield field.name, value

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the prompts, answers and positions, in hexadecimal digits."""
        digest = hashlib.sha256()
        for name, value in self._tensors():
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check_fits(self, *, context: int | None = None, vocabulary: int | None = None) -> None:
        """Refuse a task that a model cannot read.

        Args:
            context: the most tokens that the model reads.
            vocabulary: how many token ids the model has.

        Raises:
            ContextError: a prompt is longer.
            TaskError: a prompt or an answer has an id beyond the vocabulary.
        """
        longest = int(self.lengths.argmax())
        if context is not None and int(self.lengths[longest]) > context:
            raise ContextError(
                f"prompt {longest} of task {self.name!r} has {int(self.lengths[longest])} tokens, "
                f"and the model reads at most {context}: shorten it or leave it out"
            )
        if vocabulary is not None:
            for name in ("clean", "corrupt", "answer", "wrong"):
                _check_known(name, getattr(self, name), vocabulary)

    def check(
        self,
        model: Any,
        metric: Any = "logit_diff",
        *,
        least_accuracy: float = 0.75,
        batch_size: int | None = None,
        memory: Memory | None = None,
    ) -> Worth:
        """Warn where there is little to explain: see `sae_circuits.evaluation.worth.check_task`."""
        from sae_circuits.evaluation.worth import check_task

        how = {"batch_size": batch_size, "memory": memory}
        return check_task(model, self, metric, least_accuracy=least_accuracy, **how)

    def save(self, path: str | Path, *, model: Any = None, layout: str = "plain") -> Path:
        """Write the pairs as a file: see `sae_circuits.io.task_files.save_task`."""
        from sae_circuits.io.task_files import save_task

        return save_task(self, path, model=model, layout=layout)

    # -- showing it ------------------------------------------------------------------------------

    def _shown(self, row: int) -> tuple[object, object]:
        if self.clean_text:
            return self.clean_text[row], self.corrupt_text[row]
        size = int(self.lengths[row])
        return self.clean[row, :size].tolist(), self.corrupt[row, :size].tolist()

    def _summary(self) -> str:
        low, high = int(self.lengths.min()), int(self.lengths.max())
        size = f"{low}" if low == high else f"{low} to {high}"
        return f"{len(self)} {'pair' if len(self) == 1 else 'pairs'} of {size} tokens"

    def __repr__(self) -> str:
        clean, corrupt = self._shown(0)
        return f"Task({self.name!r}, {self._summary()}, first: {clean!r} / {corrupt!r})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(str(clean))}</td><td>{html.escape(str(corrupt))}</td></tr>"
            for clean, corrupt in map(self._shown, range(min(len(self), 5)))
        )
        return (
            f"<table><caption>{html.escape(self.name)}: {self._summary()}</caption>"
            f"<tr><th>clean</th><th>corrupt</th></tr>{rows}</table>"
        )


def _columns(ids: Int64[Tensor, "n ..."]) -> Int64[Tensor, "n k"]:
    """Take one id a pair, or several, as columns."""
    return ids[:, None] if ids.ndim == 1 else ids


def _check_answers(what: str, ids: Int64[Tensor, "n k"]) -> None:
    if ids.numel() and int(ids.min()) < NO_ANSWER:
        raise TaskError(f"{what} has the token id {int(ids.min())}: ids are 0 or more, -1 fills")


def _check_known(what: str, ids: Int64[Tensor, "n k"], vocabulary: int) -> None:
    unknown = (ids >= vocabulary).any(-1).nonzero()
    if unknown.numel():
        row = int(unknown[0])
        raise TaskError(
            f"{what} of pair {row} has the token id {int(ids[row].max())}, and the model's "
            f"{vocabulary} ids end at {vocabulary - 1}"
        )
