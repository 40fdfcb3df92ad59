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
from sae_circuits.tasks.spans import Spans

Group = tuple[Float[Tensor, "src dest"], int]  # scores summed over some examples, and how many


def each_batch(
    problems: Iterable[Problem], method: Method, settings: dict[str, Any]
) -> Iterator[Group]:
    """The scores of each batch."""
    assert method.score_batch is not None  # searches have no scores of batches
    for problem in problems:
        yield method.score_batch(problem, **settings), len(problem.batch)


def each_example(
    problems: Iterable[Problem], method: Method, settings: dict[str, Any]
) -> Iterator[Group]:
    """The scores of each example: of a batch's in one pass, as spans, where the method has spans.

    Others are asked for one example at a time, as are those that turn out to give no spans.
    """
    assert method.score_batch is not None
    together = "spans" in method.levels
    for problem in problems:
        if together:
            found = method.score_batch(replace(problem, spans=_examples(problem)), **settings)
            if found.ndim == 3:
                yield from ((score, 1) for score in found)
                continue
            together = False
        for i in range(len(problem.batch)):
            alone = replace(problem, batch=problem.batch[i : i + 1], first=problem.first + i)
            yield method.score_batch(alone, **settings), 1


def _examples(problem: Problem) -> Spans:
    """A batch's examples as spans, of which each covers all tokens of its own prompt."""
    n = len(problem.batch)
    label = torch.arange(problem.first + n) - problem.first  # of the task's prompts up to here
    labels = label[:, None].expand(-1, problem.batch.clean.shape[1])
    return Spans(tuple(f"example {problem.first + i}" for i in range(n)), labels)
