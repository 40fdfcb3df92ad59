"""Spans: named parts of prompts, one label a token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae_circuits.errors import TaskError
from sae_circuits.graph import Given, Where
from sae_circuits.tasks.task import Task

REST = "rest"  # the tokens that no span names


@dataclass(frozen=True, eq=False)
class Spans:
    """Which span each token of a task's prompts belongs to.

    Args:
        names: of the spans.
        labels: the index of each token's span; of padding, whatever.
    """

    names: tuple[str, ...]
    labels: Int64[Tensor, "n pos"]

    @classmethod
    def of(cls, task: Task, given: Given) -> Spans:
        """Read what `attribute_spans` takes.

        Raises:
            TaskError: no span; a position outside of a prompt; two spans at one token.
        """
        n, pos = task.clean.shape
        if isinstance(given, str):
            if given != "position":
                raise TaskError(f"spans={given!r}: 'position', or spans by their names")
            return cls(tuple(f"@{i}" for i in range(pos)), torch.arange(pos).expand(n, pos))
        if not given or REST in given:
            named = f"the name {REST!r} is kept for tokens in no span" if given else "there is none"
            raise TaskError(f"spans={dict(given)!r}: {named}; give spans by their names")
        real = torch.arange(pos) < task.lengths.cpu()[:, None]
        labels = torch.full((n, pos), len(given))
        for i, (name, where) in enumerate(given.items()):
            mask = _mask(task, name, where, real)
            if bool((taken := mask & (labels < len(given))).any()):
                example, at = taken.nonzero()[0].tolist()
                other = list(given)[int(labels[example, at])]
                raise TaskError(
                    f"spans {other!r} and {name!r} overlap at position {at} of prompt {example}"
                )
            labels[mask] = i
        rest = bool((real & (labels == len(given))).any())
        return cls((*given, REST) if rest else tuple(given), labels)


def _mask(
    task: Task, name: str, where: Where, real: Bool[Tensor, "n pos"]
) -> Bool[Tensor, "n pos"]:
    """Which tokens a span covers."""
    if isinstance(where, tuple):
        clean, corrupt = (_mask(task, name, each, real) for each in where)
        if bool((differ := (clean != corrupt).any(1)).any()):
            example = int(differ.nonzero()[0])
            in_clean, in_corrupt = (x[example].nonzero()[:, 0].tolist() for x in (clean, corrupt))
            raise TaskError(
                f"span {name!r} does not align: it has positions {in_clean} of clean prompt "
                f"{example} and {in_corrupt} of the corrupt one; corrupt it by as many tokens"
            )
        return clean
    if isinstance(where, Tensor) and where.dtype == torch.bool:
        if where.shape != real.shape:
            raise TaskError(
                f"span {name!r} is a mask {list(where.shape)}; the prompts are {list(real.shape)}"
            )
        return where.cpu() & real
    if isinstance(where, Tensor) and where.shape == (len(real), 2):
        return _between(task, name, where.cpu().long(), real)
    if isinstance(where, Tensor) and where.shape != (len(real),):
        raise TaskError(
            f"span {name!r} has positions {list(where.shape)}: one for each of {len(real)} "
            f"prompts, or its start and its end in each, [{len(real)}, 2]"
        )
    if isinstance(where, Tensor):
        at = where.cpu().long()[:, None]
    else:
        at = torch.tensor([*where] if isinstance(where, range) else [where])
        at = at.expand(len(real), -1)
    lengths = task.lengths.cpu()[:, None]
    at = torch.where(at < 0, at + lengths, at)
    if bool((outside := (at < 0) | (at >= lengths)).any()):
        example, i = outside.nonzero()[0].tolist()
        raise TaskError(
            f"span {name!r}: prompt {example} has {int(lengths[example])} tokens and no position "
            f"{int(at[example, i])}"
        )
    return torch.zeros_like(real).scatter(1, at, torch.ones_like(at, dtype=torch.bool))


def _between(
    task: Task, name: str, ends: Int64[Tensor, "n 2"], real: Bool[Tensor, "n pos"]
) -> Bool[Tensor, "n pos"]:
    """The tokens from a position of each prompt to before another."""
    lengths = task.lengths.cpu()
    bad = (ends[:, 0] < 0) | (ends[:, 0] > ends[:, 1]) | (ends[:, 1] > lengths)
    if bool(bad.any()):
        example = int(bad.nonzero()[0])
        raise TaskError(
            f"span {name!r} goes from {int(ends[example, 0])} to before {int(ends[example, 1])} in "
            f"prompt {example}, which has {int(lengths[example])} tokens"
        )
    pos = torch.arange(real.shape[1])
    return (pos >= ends[:, :1]) & (pos < ends[:, 1:])
