"""What methods share that run circuits of a task: searches, and masks that are learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sae_circuits.ablation.run import require_whole
from sae_circuits.ablation.sweep import Sweep
from sae_circuits.attribution.problem import Problem
from sae_circuits.errors import OptionError
from sae_circuits.graph import Circuit


def without_graphs(problems: Sequence[Problem]) -> list[Problem]:
    """The same batches, whose clean runs keep nothing for gradients."""
    return [replace(problem, clean_has_graph=False) for problem in problems]


def sweep_of(problem: Problem) -> Sweep:
    """The runs of a batch's circuits.

    Raises:
        GraphError: a part of the model's graph: the rest would have to be in or out as well.
    """
    require_whole([Circuit.full(problem.graph)], problem.adapter)
    clean = problem.clean
    return Sweep(
        adapter=problem.adapter,
        graph=problem.graph,
        start=clean.writes["input"],
        replacement=problem.replacement,
        is_run=problem.intervention.is_run,
        calls=clean.calls,
        position=problem.batch.position.to(clean.logits.device),
        saes=problem.saes,
    )


def require_positive(name: str, value: float) -> None:
    """Raise an `OptionError` unless a value is a finite number above 0."""
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise OptionError(f"{name}={value!r}: give a number above 0")
