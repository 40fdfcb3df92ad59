"""Random prompts, and the same prompts padded."""

from __future__ import annotations

import torch
from torch import Tensor

from sae_circuits.tasks import Task


def random_task(n: int = 6, pos: int = 7, d_vocab: int = 30, seed: int = 0) -> Task:
    """Random prompts of mixed lengths."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupt = torch.randint(d_vocab, (2, n, pos), generator=generator)
    answers = torch.randint(d_vocab, (n, 2), generator=generator)
    lengths = pos - torch.arange(n) % 3
    mask = torch.arange(pos) < lengths[:, None]
    wrong = (answers[:, :1] + 1) % d_vocab
    return Task.from_tokens(
        clean, corrupt, answer=answers[:, :1], wrong=wrong, mask=mask, name="random"
    )


def padded(task: Task, left: int, right: int) -> Task:
    """The same prompts between padding of a token that means something."""
    pos = left + task.clean.shape[1] + right
    at = torch.arange(pos) - left
    mask = (at >= 0) & (at < task.lengths[:, None])

    def pad(tokens: Tensor) -> Tensor:
        filled = tokens.new_full((len(tokens), pos), 5)
        filled[mask] = tokens[torch.arange(task.clean.shape[1]) < task.lengths[:, None]]
        return filled

    return Task.from_tokens(
        pad(task.clean),
        pad(task.corrupt),
        answer=task.answer,
        wrong=task.wrong,
        mask=mask,
        name=task.name,
    )
