"""Scores example by example, or batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.spans import Spans

Group = tuple[Float[Tensor, "src dest"], int]  # scores summed over some examples, and how many


def each_batch(
    problems: Iterable[Problem], method: Method, settings: dict[str, Any]
) -> Iterator[Group]:
    """The scores of each batch."""
    for problem in problems:
        yield method.score_batch(problem, **settings), len(problem.batch)


def each_example(
    problems: Iterable[Problem], method: Method, settings: dict[str, Any]
) -> Iterator[Group]:
    """The scores of each example: of many in one pass once a method has told one from others.

    Each is a span of its batch. What is no sum of `Problem.score` has no axis of spans, and is
    asked for one example at a time.
    """
    together = 1
    for problem in problems:
        start, n = 0, len(problem.batch)
        while start < n:
            part = _split(problem, start, min(start + together, n))
            found = method.score_batch(part, **settings)
            if found.ndim == 3:
                together = n
            yield from ((score, 1) for score in found.reshape(-1, *found.shape[-2:]))
            start += len(part.batch)


def _split(problem: Problem, start: int, stop: int) -> Problem:
    """Some of a batch's examples, each with scores of its own."""
    first = problem.first + start
    names = tuple(f"example {first + i}" for i in range(stop - start))
    label = torch.arange(problem.first + stop) - first  # of all of the task's up to here
    labels = label[:, None].expand(-1, problem.batch.clean.shape[1])
    return replace(
        problem, batch=problem.batch[start:stop], first=first, spans=Spans(names, labels)
    )
