"""A seeded baseline: standard normal scores that depend on the seed and the graph alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem


def score_batch(problem: Problem, seed: int) -> Float[Tensor, "src dest"]:
    """The same scores for every example."""
    graph = problem.graph
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(graph.n_edges, generator=generator, dtype=torch.float64)
    return graph.dense(values).to(problem.adapter.device) * len(problem.batch)


METHOD = Method(name="random", score_batch=score_batch, options={"seed": 0}, levels=("edges",))
