"""Uniform gradient sampling: the probability that an edge is in, learned from partial ablations.

Li and Janson 2024, arXiv 2409.09951. Edge k is in with probability t = sigmoid(a). Since

    d E[loss] / dt = E[loss | m = 1] - E[loss | m = 0] = E over even m from 0 to 1 of dloss / dm,

masks are drawn that often lie between: with w = t (1 - t), and u even from 0 to 1,

    m = clamp(1/2 + (t - u) / w, 0, 1)

is even from 0 to 1 with probability w, 1 with probability t - w/2, else 0, and its mean is t. The
gradient counts where it lies between, over w, so that dm/da = 1 there; then it is that of the loss
plus the penalty, sum over edges of `penalty` times t. An edge's score is t: from 0 to 1, and 1
stands for an edge that lowers the loss by more than the penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.masks import Masked, check_training, learn, passes, start_at
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.searches import require_positive


def uniform_window(odds: Float[Tensor, "edge"], u: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """Masks from 0 to 1 for numbers drawn evenly from 0 to 1; their slope is 1 in between."""
    with torch.no_grad():
        t = odds.sigmoid()
        masks = (0.5 + (t - u) / (t * (1 - t)).clamp(min=1e-12)).clamp(0, 1)
        between = ((masks > 0) & (masks < 1)).to(odds)
    return masks + between * (odds - odds.detach())


@torch.no_grad()
def search(
    problems: Sequence[Problem],
    penalty: float,
    steps: int,
    samples: int,
    lr: float,
    loss: str,
    init: Any,
    seed: int,
) -> Float[Tensor, "src dest"]:
    """The probability that each edge is in.

    Args:
        penalty: what an edge has to lower the loss by to stay, in the loss's unit.
        steps: updates of the probabilities.
        samples: masks drawn for each, all run on every example.
        lr: of the log-odds, by Adam.
        loss: "kl" to the whole model; "cross_entropy" of the answers; or "metric", the squared
            distance of the metric from its value in the whole model.
        init: scores whose order the log-odds start in, the largest by size first.
    """
    check_training(steps, lr, samples)
    require_positive("penalty", penalty)
    graph = problems[0].graph
    odds = start_at(graph, init, 0.0 if init else 1.0, problems[0].adapter.device)
    masked = Masked.of(problems, loss)
    with torch.enable_grad():
        learn(
            masked,
            torch.optim.Adam([odds], lr=lr, betas=(0.9, 0.995)),
            lambda u: uniform_window(odds, u),
            lambda _: penalty * odds.sigmoid().sum(),
            steps=steps,
            samples=samples,
            seed=seed,
            name="ugs",
        )
    return graph.dense(odds.sigmoid())


METHOD = Method(
    name="ugs",
    passes=passes,
    search=search,
    estimates_effect=False,
    in_metric_unit=False,
    levels=("edges",),
    reference="arXiv 2409.09951",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={
        "penalty": 1e-3,
        "steps": 300,
        "samples": 1,
        "lr": 0.1,
        "loss": "kl",
        "init": None,
        "seed": 0,
    },
)
