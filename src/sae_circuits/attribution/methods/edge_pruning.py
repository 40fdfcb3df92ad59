"""Edge Pruning: a mask for every edge, learned by gradient descent to leave the model's output.

Bhaskar et al. 2024, arXiv 2406.16778. Masks are drawn from hard-concrete distributions (Louizos et
al. 2017, arXiv 1712.01312) with log-odds a, for even u from 0 to 1:

    z = clamp(1.2 sigmoid((logit(u) + a) / T) - 0.1, 0, 1),   T = 2/3
    P(z > 0) = sigmoid(a - T log(0.1 / 1.1))

The loss is the KL divergence from the whole model plus l1 (t - s) + l2 (t - s)^2, where s, the mean
of P(z = 0), has to reach the target t; l1 and l2 climb what a falls along. t grows to the target in
the warm-up. An edge's score is P(z > 0): from 0 to 1, and 1 stands for an edge that is needed. The
paper's masks of whole writers, which come on top of those of edges, are not learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.masks import Masked, check_training, learn, passes, start_at
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.searches import require_positive
from sae_circuits.errors import OptionError

TEMPERATURE, BELOW, ABOVE = 2 / 3, -0.1, 1.1


def hard_concrete(odds: Float[Tensor, "edge"], u: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """Masks from 0 to 1, both ends included, for numbers drawn evenly from 0 to 1."""
    s = torch.sigmoid((torch.logit(u) + odds) / TEMPERATURE)
    return (BELOW + (ABOVE - BELOW) * s).clamp(0, 1)


def kept(odds: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """The probability that a mask is not 0."""
    return torch.sigmoid(odds - TEMPERATURE * math.log(-BELOW / ABOVE))


@torch.no_grad()
def search(
    problems: Sequence[Problem],
    target: float,
    steps: int,
    warmup: float,
    lr: float,
    lr_sparsity: float,
    loss: str,
    init: Any,
    seed: int,
) -> Float[Tensor, "src dest"]:
    """The probability that each edge is in.

    Args:
        target: the share of the edges to leave out, above 0 and below 1.
        steps: passes over the task.
        warmup: the share of the steps in which the target grows.
        lr: of the log-odds, by Adam.
        lr_sparsity: of l1 and l2, by Adam.
        loss: "kl" to the whole model; "cross_entropy" of the answers; or "metric", the squared
            distance of the metric from its value in the whole model.
        init: scores whose order the masks start in, the largest by size first.
    """
    check_training(steps, lr)
    require_positive("lr_sparsity", lr_sparsity)
    if not (0 < target < 1 and 0 <= warmup <= 1):
        raise OptionError(
            f"target={target!r}, warmup={warmup!r}: give a target between 0 and 1, where there is "
            "something to learn, and a warmup from 0 to 1"
        )
    graph = problems[0].graph
    odds = start_at(graph, init, 0.0 if init else SURE, problems[0].adapter.device)
    masked = Masked.of(problems, loss)
    multipliers = torch.zeros(2, dtype=torch.float64, device=odds.device, requires_grad=True)
    optimizer = torch.optim.Adam(
        [
            {"params": [odds], "lr": lr},
            {"params": [multipliers], "lr": lr_sparsity, "maximize": True},
        ]
    )
    start = float(1 - kept(odds).mean())

    def penalty(step: int) -> Tensor:
        grown = 1.0 if warmup == 0 else min(1.0, (step + 1) / (warmup * steps))
        missing = start + (target - start) * grown - (1 - kept(odds).mean())
        return multipliers[0] * missing + multipliers[1] * missing.square()

    with torch.enable_grad():
        learn(
            masked,
            optimizer,
            lambda u: hard_concrete(odds, u),
            penalty,
            steps=steps,
            samples=1,
            seed=seed,
            name="edge-pruning",
        )
    return graph.dense(kept(odds))


SURE = 2.0  # log-odds where no scores are given: most masks begin at 1


METHOD = Method(
    name="edge-pruning",
    passes=passes,
    search=search,
    estimates_effect=False,
    in_metric_unit=False,
    levels=("edges",),
    reference="arXiv 2406.16778",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={
        "target": 0.9,
        "steps": 300,
        "warmup": 0.5,
        "lr": 0.1,
        "lr_sparsity": 0.5,
        "loss": "kl",
        "init": None,
        "seed": 0,
    },
)
