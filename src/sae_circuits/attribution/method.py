"""What a method of attribution is, and the one engine behind those that are quadrature rules.

A rule is a list of points on the straight path of the input embedding from corrupt (0) to clean
(1), each with a weight; the score of an edge is its change times the weighted mean of the gradient
at those points. One point at 1 is EAP; both ends are clean-corrupted; points in between, EAP-IG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import islice
from operator import add
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation.interventions import ELSEWHERE, INTERVENTIONS
from sae_circuits.ablation.values import Intervening, NodeValues, intervention_name
from sae_circuits.attribution.gradients import Gradients
from sae_circuits.attribution.problem import AnyProblem, Problem
from sae_circuits.cache import Run
from sae_circuits.costs.passes import Passes
from sae_circuits.errors import OptionError, unknown
from sae_circuits.graph import TensorGraph
from sae_circuits.models.backward import BackwardRules

Level = Literal["edges", "nodes", "spans"]
Point = tuple[float, float]  # where on the path, 0 corrupt to 1 clean; and its weight
TOGETHER = 8  # points whose gradients are held, in narrow form, and multiplied at once


@dataclass(frozen=True)
class Method:
    """A method of attribution.

    Args:
        name: what users call it.
        score_batch: scores of all edges, summed over the examples of a batch, [src, dest].
        reference: where it was published.
        interventions: those for which it is defined.
        options: the options it takes, with their defaults.
        estimates_effect: whether a score estimates what corrupting that edge alone does to the
            metric, and on a linear model is that.
        in_metric_unit: whether scores are in the metric's unit: zero where clean equals corrupt,
            and twice as large for twice the metric.
        levels: of what it gives scores: "edges", "nodes" (writers), and "spans" of the prompts.
        passes: what it runs on a batch, from the graph and the method's options; by default as
            much as any rule over gradients.
        search: in the place of `score_batch`, for what is no sum over batches: from all batches of
            a task, and its options, to the scores of all edges.
    """

    name: str
    score_batch: Callable[..., Float[Tensor, "src dest"]] | None = None
    reference: str = ""
    interventions: tuple[str, ...] = ("corrupt", "resample")
    options: dict[str, Any] = field(default_factory=dict)
    estimates_effect: bool = True
    in_metric_unit: bool = True
    levels: tuple[Level, ...] = ("edges", "nodes", "spans")
    passes: Callable[..., Passes] | None = None
    search: Callable[..., Float[Tensor, "src dest"]] | None = None

    def __post_init__(self) -> None:
        if self.score_batch is None and self.search is None:
            raise OptionError(f"method {self.name!r}: give it score_batch or search")

    def costs(self, graph: TensorGraph, options: Mapping[str, Any]) -> Passes:
        """What the method runs on a batch, before anything runs."""
        if self.passes is not None:
            return self.passes(graph, **options)
        if isinstance(self.score_batch, Rule):
            return self.score_batch.passes(**options)
        return Passes(planned=False)

    def require_level(self, level: Level) -> None:
        """Refuse a level for which the method is not defined.

        Raises:
            OptionError: with the levels for which it is.
        """
        if level not in self.levels:
            raise OptionError(
                f"method {self.name!r} scores {' and '.join(self.levels)} only, no {level}: give a "
                "rule over gradients, such as 'eap-ig'"
            )

    def require(self, intervention: Intervening, options: dict[str, Any]) -> None:
        """Refuse an intervention for which the method is not defined, or an option it lacks.

        Where a writer's mean may stand, so may another constant.
        """
        kind = "mean" if isinstance(intervention, NodeValues) else intervention
        if kind not in INTERVENTIONS:
            raise unknown("intervention", kind, INTERVENTIONS, ELSEWHERE)
        if kind not in self.interventions:
            raise OptionError(
                f"method {self.name!r} is not defined for the intervention "
                f"{intervention_name(intervention)!r}: it is for {', '.join(self.interventions)}"
            )
        for name in options:
            if name not in self.options:
                raise unknown(f"option of method {self.name!r}", name, self.options)


@dataclass(frozen=True)
class Rule:
    """The `score_batch` of a rule over points of the embedding's path.

    Args:
        points: gets the method's options and returns the points.
    """

    points: Callable[..., Sequence[Point]]

    def passes(self, **options: Any) -> Passes:
        """What the rule runs on a batch: the two ends of the path are runs of their own."""
        path = self.points(**options)
        ends = len({at for at, _ in path if at in (0, 1)})
        return Passes(
            forward=2 - ends,
            gradient=len(path),
            graphs=max(1, ends),
            points=min(TOGETHER, len(path)),
            products=-(-len(path) // TOGETHER),
            writes=3,
        )

    def gradients(
        self, problem: AnyProblem, **options: Any
    ) -> tuple[AnyProblem, Iterator[Gradients]]:
        """The problem with the runs that the rule needs, and each point's weighted gradient."""
        path = self.points(**options)
        problem = replace(problem, clean_has_graph=any(at == 1 for at, _ in path))
        return problem, (weight * problem.gradients(_run_at(problem, at)) for at, weight in path)

    def __call__(self, problem: Problem, **options: Any) -> Float[Tensor, "*span src dest"]:
        """The scores of all edges, summed over the examples of a batch."""
        problem, each = self.gradients(problem, **options)
        groups = range(0, len(self.points(**options)), TOGETHER)
        scores = [problem.score(reduce(add, islice(each, TOGETHER))) for _ in groups]
        return torch.stack(scores).sum(0)


def along_embedding(points: Callable[..., Sequence[Point]]) -> Callable[..., Tensor]:
    """The `score_batch` of a rule, which gets the method's options and returns its points."""
    return Rule(points)


def with_rules(rules: Callable[..., BackwardRules]) -> Callable[..., Tensor]:
    """The `score_batch` of EAP with other rules in the backward pass.

    Args:
        rules: gets the method's options and returns the rules.
    """

    def score_batch(problem: Problem, **options: Any) -> Float[Tensor, "*span src dest"]:
        problem = replace(problem, rules=rules(**options))
        return problem.score(problem.gradients(problem.clean))

    return score_batch


def one_gradient(graph: TensorGraph, **_: Any) -> Passes:
    """What `with_rules` runs: rules of their own keep more for the backward pass."""
    return Passes(forward=1, gradient=1, graphs=1.25, points=1, products=1, writes=3)


def _run_at(problem: Problem, at: float) -> Run:
    """A run whose input embedding stands between corrupt (0) and clean (1)."""
    if at in (0, 1):
        return problem.clean if at else problem.corrupt
    embedding = torch.lerp(problem.replacement["input"], problem.clean.writes["input"], at)
    return problem.run(problem.batch.clean, grad=True, edits={"input": embedding})


def path_points(steps: int, rule: str) -> list[Point]:
    """Where a rule of `steps` points evaluates on a path from 0 to 1, with equal weights.

    `midpoint`: (k + 1/2) / steps, whose error falls as 1 / steps^2; `left`: k / steps, the
    published one.

    >>> path_points(2, "midpoint"), path_points(2, "left")
    ([(0.25, 0.5), (0.75, 0.5)], [(0.0, 0.5), (0.5, 0.5)])

    Raises:
        OptionError: fewer than one step, or another rule.
    """
    if steps < 1:
        raise OptionError(f"steps={steps}: a path needs at least one point")
    if rule not in ("midpoint", "left"):
        raise OptionError(f"unknown rule {rule!r}: 'midpoint' or 'left'")
    shift = 0.5 if rule == "midpoint" else 0.0
    return [((k + shift) / steps, 1 / steps) for k in range(steps)]
