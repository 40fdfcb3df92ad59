"""EAP with integrated gradients on activations: each site's output moved in turn, all else clean.

Marks et al. 2024, arXiv 2403.19647. Sites are the input, the heads of a layer and its MLP; only
the edges that leave a site are scored in its turn, so that the result is exact on a linear model.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.method import Method, path_points
from sae_circuits.attribution.problem import Problem
from sae_circuits.cache import Writes
from sae_circuits.graph import Block, TensorGraph


def score_batch(problem: Problem, steps: int, rule: str) -> Float[Tensor, "src dest"]:
    """Scores of all edges, site by site."""
    problem = replace(problem, clean_has_graph=False)
    graph = problem.graph
    total = torch.zeros(
        graph.n_src, graph.n_dest, dtype=torch.float64, device=problem.adapter.device
    )
    start = 0
    for site in graph.writers:
        rows = slice(start, start + len(site))
        start += len(site)
        after = TensorGraph(
            graph.architecture, (site,), tuple(r for r in graph.readers if r.depth > site.depth)
        )
        if not after.n_dest:
            continue
        for where, weight in path_points(steps, rule):
            at = problem.run(problem.batch.clean, grad=True, edits=_moved(problem, site, where))
            score = problem.score(problem.gradients(at, after), after)
            total[rows, -after.n_dest :] += weight * score
    return total


def _moved(problem: Problem, site: Block, where: float) -> dict[str, Tensor]:
    """What a site adds to the stream, between corrupt (0) and clean (1)."""

    def between(corrupt: Tensor, clean: Tensor) -> Tensor:
        return torch.lerp(corrupt, clean, where)

    writes: Writes = problem.replacement.map(problem.clean.writes, by=between)
    if site.kind == "input":
        return {"input": writes.input}
    assert site.layer is not None
    if site.kind == "mlp":
        return {f"m{site.layer}": writes.mlps[site.layer]}
    adapter = problem.adapter
    out = torch.einsum("bphk,hkd->bpd", writes.heads[site.layer], adapter.W_write(site.layer))
    constant = adapter.constant(site.layer)
    return {f"a{site.layer}": out if constant is None else out + constant}


METHOD = Method(
    name="eap-ig-activations",
    score_batch=score_batch,
    reference="arXiv 2403.19647",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={"steps": 5, "rule": "midpoint"},
)
