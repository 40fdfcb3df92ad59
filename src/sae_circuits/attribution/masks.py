"""Masks for edges that are learned: what methods share that do so, whatever they draw masks from.

Each step draws one mask for all examples, runs it (see `ablation/soft.py`), and moves the
parameters of the distribution. All examples count at each step, so that nothing hangs on how they
are batched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation.soft import Bus, Soft
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.searches import require_positive, sweep_of, without_graphs
from sae_circuits.costs.passes import Passes
from sae_circuits.errors import GraphError, NumericalError, OptionError
from sae_circuits.graph import Scores, TensorGraph
from sae_circuits.metrics import cross_entropy, kl
from sae_circuits.progress import track

LOSSES = ("kl", "cross_entropy", "metric")
SPREAD = 3.0  # from the middle of the log-odds to the first and the last edge of a warm start
EPS = 1e-6  # draws stay so far from 0 and 1, where their log-odds end

Draw = Callable[[Float[Tensor, "edge"]], Float[Tensor, "edge"]]
"""A mask from numbers drawn evenly from 0 to 1, differentiable in the parameters."""


@dataclass(frozen=True, eq=False)
class Masked:
    """A task on which masks are tried."""

    problems: Sequence[Problem]
    runs: tuple[Soft, ...]
    loss: str

    @classmethod
    def of(cls, problems: Sequence[Problem], loss: str) -> Masked:
        """Make what all masks share: the clean and the replacement run of every batch.

        Raises:
            OptionError: no such loss.
            GraphError: a part of the model's graph, or one with features.
        """
        if loss not in LOSSES:
            raise OptionError(f"loss={loss!r}: one of {', '.join(map(repr, LOSSES))}")
        require_no_features(problems[0].graph)
        problems = without_graphs(problems)
        rooms: dict[torch.Size, Bus] = {}
        runs = []
        for problem in problems:
            problem.measure(problem.clean.logits)  # what is wrong with it is said before the work
            sweep = sweep_of(problem)
            room = rooms.setdefault(sweep.start.shape, Bus.of(sweep.graph.n_src, sweep.start))
            runs.append(Soft(sweep, room))
        return cls(problems, tuple(runs), loss)

    def slope(self, mask: Float[Tensor, "edge"]) -> tuple[float, Float[Tensor, "edge"]]:
        """The mean loss of a mask over all examples, and its gradient."""
        n = sum(len(problem.batch) for problem in self.problems)
        total, slopes = 0.0, torch.zeros_like(mask)
        for problem, run in zip(self.problems, self.runs, strict=True):
            leaf = mask.detach().requires_grad_()
            with torch.enable_grad(), problem.adapter.frozen():
                value = self._losses(problem, run.logits(leaf)).double().sum() / n
                (slope,) = torch.autograd.grad(value, leaf)
            total, slopes = total + float(value.detach()), slopes + slope
        return total, slopes

    def _losses(self, problem: Problem, logits: Tensor) -> Float[Tensor, "batch"]:
        if self.loss == "metric":
            return (problem.measure(logits) - problem.measure(problem.clean.logits)).square()
        return (kl if self.loss == "kl" else cross_entropy)(logits, problem.targets)


def learn(
    masked: Masked,
    optimizer: torch.optim.Optimizer,
    draw: Draw,
    penalty: Callable[[int], Tensor],
    *,
    steps: int,
    samples: int,
    seed: int,
    name: str,
) -> None:
    """Move the optimizer's parameters for some steps along loss plus penalty.

    Args:
        draw: makes a mask.
        penalty: what is added to the loss at a step.
        samples: masks drawn a step.

    Raises:
        NumericalError: the loss or the parameters are not finite.
    """
    graph, generator = masked.problems[0].graph, torch.Generator().manual_seed(seed)
    for step in track(range(steps), total=steps, description=name):
        optimizer.zero_grad()
        total, value = penalty(step), 0.0
        for _ in range(samples):
            u = torch.rand(graph.n_edges, generator=generator, dtype=torch.float64)
            mask = draw(u.clamp(EPS, 1 - EPS).to(total.device))
            loss, slope = masked.slope(mask)
            total, value = total + (mask * slope).sum() / samples, value + loss / samples
        total.backward()
        if not (torch.isfinite(total) and torch.isfinite(torch.tensor(value))):
            rates = " and ".join(f"{group['lr']:g}" for group in optimizer.param_groups)
            raise NumericalError(
                f"the loss of {name!r} is {value} at step {step} of {steps}: the masks diverge; "
                f"take smaller learning rates than {rates}, or a model in float32"
            )
        optimizer.step()


def start_at(
    graph: TensorGraph, init: Any, middle: float, device: torch.device
) -> Float[Tensor, "edge"]:
    """Log-odds to start from: the same for all edges, or falling along the order of some scores.

    Raises:
        GraphError: scores of another graph.
        OptionError: what are no scores.
        NumericalError: scores that are not finite.
    """
    odds = torch.full((graph.n_edges,), middle, dtype=torch.float64, device=device)
    if init is None:
        return odds.requires_grad_()
    if not isinstance(init, Scores):
        raise OptionError(f"init={init!r}: give scores, such as those of attribute(...)")
    graph.require_same(init.graph, "init")
    if not bool(init.values.isfinite().all()):
        raise NumericalError("init holds scores that are not finite: attribute again")
    order = init.order().to(device)
    odds[order] += torch.linspace(SPREAD, -SPREAD, len(order), dtype=torch.float64, device=device)
    return odds.requires_grad_()


def check_training(steps: int, lr: float, samples: int = 1) -> None:
    """Raise an `OptionError` unless steps, learning rate and samples are above 0."""
    require_positive("lr", lr)
    for name, value in {"steps": steps, "samples": samples}.items():
        if not isinstance(value, int) or value < 1:
            raise OptionError(f"{name}={value!r}: give a whole number above 0")


def passes(graph: TensorGraph, steps: int, samples: int = 1, **_: Any) -> Passes:
    """What learning runs: a run with masks at every step; all batches wait for the next."""
    return Passes(
        forward=2,
        gradient=steps,
        graphs=2,
        points=1,
        products=0,
        vectors=3,
        writes=8,
        spaces=8,
        whole=True,
        masks=steps * samples,
    )


def require_no_features(graph: TensorGraph) -> None:
    """Raise a `GraphError` where dictionaries split what heads or MLPs write."""
    if any(block.is_split for block in graph.writers):
        raise GraphError(
            f"{graph!r} has features, and masks are learned for edges of heads and MLPs only: take "
            "TensorGraph.from_model(model), or score features by eap-ig or acdc"
        )
