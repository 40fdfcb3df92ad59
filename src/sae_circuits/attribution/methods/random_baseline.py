"""A seeded baseline: standard normal scores that depend on the seed and the graph alone."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.costs.passes import Passes
from sae_circuits.graph import TensorGraph


def score_batch(problem: Problem, seed: int) -> Float[Tensor, "src dest"]:
    """The same scores for every example."""
    graph = problem.graph
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(graph.n_edges, generator=generator, dtype=torch.float64)
    return graph.dense(values).to(problem.adapter.device) * len(problem.batch)


def passes(graph: TensorGraph, **_: Any) -> Passes:
    """None."""
    return Passes(forward=2, gradient=0, graphs=0, points=0, products=0)


METHOD = Method(
    name="random",
    score_batch=score_batch,
    passes=passes,
    options={"seed": 0},
    levels=("edges",),
)
