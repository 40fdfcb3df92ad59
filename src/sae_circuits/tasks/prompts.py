"""Prompts alone, in whatever form they come, as a task whose answers nothing reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from sae_circuits.errors import OptionError, TaskError, require
from sae_circuits.tasks.align import FILLER, pack
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary

Prompts = Task | str | Sequence[str] | Int64[Tensor, "..."]


def as_task(
    model: Any,
    prompts: Prompts,
    *,
    mask: Shaped[Tensor, "..."] | None = None,
    position: int | Int64[Tensor, "n"] | None = None,
    prepend_bos: bool = True,
) -> Task:
    """Take prompts as the clean side of a task.

    Args:
        model: whose tokenizer reads text.
        prompts: a task, one text or several, or token ids [pos] or [n, pos].
        mask: true at the real tokens of token ids; without it, all are real.
        position: index of the token whose logits are read, for all prompts or for each; without
            it, a task's own, or the last real token.
        prepend_bos: whether texts begin with the beginning-of-sequence token, if there is one.

    Raises:
        OptionError: a mask with anything but token ids.
        TaskError: no prompt or an empty one, ids of another dtype, a position outside a prompt.

    >>> as_task(None, torch.tensor([5, 6, 7])).position.tolist()
    [2]
    """
    if mask is not None and not isinstance(prompts, Tensor):
        raise OptionError(f"a mask goes with token ids, and the prompts are {type(prompts)}")
    if isinstance(prompts, Task):
        task = prompts
    elif isinstance(prompts, Tensor):
        task = _of_tokens(prompts, mask)
    else:
        made = "a Task, token ids, a text or a list of texts"
        require("prompts", prompts, (str, Iterable), made)
        texts = (prompts,) if isinstance(prompts, str) else tuple(prompts)
        if not texts:
            raise TaskError("there is no prompt: give at least one")
        vocabulary = Vocabulary.of(model)
        rows = [vocabulary.prompt(text, prepend_bos=prepend_bos) for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        task = _of_tokens(pack(rows, FILLER), torch.arange(int(lengths.max())) < lengths[:, None])
        task = replace(task, clean_text=texts, corrupt_text=texts)
    if position is None:
        return task
    where = position if isinstance(position, Tensor) else torch.full_like(task.position, position)
    if where.shape != task.position.shape:
        raise TaskError(f"there are {len(where)} positions for {len(task)} prompts: give one each")
    return replace(task, position=where.to(task.position.device))


def _of_tokens(tokens: Tensor, mask: Tensor | None) -> Task:
    if tokens.ndim == 1:
        tokens, mask = tokens[None], None if mask is None else mask[None]
    if tokens.dtype != torch.int64 or tokens.ndim != 2 or not tokens.numel():
        raise TaskError(
            f"the prompts are {tokens.dtype} of shape {tuple(tokens.shape)}: give torch.int64 ids "
            "[pos] or [n, pos], at least one"
        )
    unread = tokens.new_zeros(len(tokens))
    return Task.from_tokens(tokens, tokens, answer=unread, mask=mask, name="prompts")
