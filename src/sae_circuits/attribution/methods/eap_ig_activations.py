"""EAP with integrated gradients on activations: each site's output moved in turn, all else clean.

Marks et al. 2024, arXiv 2403.19647. Sites are the input, the heads of a layer and its MLP, and what
a dictionary splits, with all its features and its error node. Only the edges that leave a site are
scored in its turn, so that the result is exact on a linear model.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.method import Method, path_points
from sae_circuits.attribution.problem import Problem
from sae_circuits.cache.streams import heads_out
from sae_circuits.costs.passes import Passes
from sae_circuits.graph import Block, TensorGraph


def score_batch(problem: Problem, steps: int, rule: str) -> Float[Tensor, "*span src dest"]:
    """Scores of all edges, site by site."""
    problem = replace(problem, clean_has_graph=False)
    graph = problem.graph
    total = problem.zeros()
    for rows, site in graph.sites():
        after = tuple(block for block in graph.readers if _sees(graph, block, rows.start))
        if not after:
            continue
        part = replace(graph, writers=site, readers=after)
        for where, weight in path_points(steps, rule):
            total[..., rows, problem.columns(part)] += weight * _scored(problem, part, where)
    return total


def _scored(problem: Problem, part: TensorGraph, where: float) -> Float[Tensor, "*span src dest"]:
    """The scores of a site's edges by the gradient at one point; its run goes with this call."""
    moved = _moved(problem, part.writers[0], where)
    at = problem.run(problem.batch.clean, grad=True, edits=moved)
    return problem.score(problem.gradients(at, part), part)


def _sees(graph: TensorGraph, reader: Block, writer: int) -> bool:
    start, stop = graph.sees(reader.depth)
    return start <= writer < stop


def _moved(problem: Problem, site: Block, where: float) -> dict[str, Tensor]:
    """What a site adds to the stream, or the stream there, between corrupt (0) and clean (1)."""

    def between(corrupt: Tensor, clean: Tensor) -> Tensor:
        return torch.lerp(corrupt, clean, where)

    clean = problem.clean.writes
    moved = problem.replacement.map(clean, by=between)
    if site.layer is None:
        return {"input": moved["input"]}
    layer, part = site.layer, site.site or ("m" if site.kind == "mlp" else "a")
    if part == "mid":  # the stream moves as what the heads add to it does
        name = f"mid{layer}"
        return {f"a{layer}": heads_out(problem.adapter, layer, clean) + moved[name] - clean[name]}
    if part == "a":
        return {f"a{layer}": heads_out(problem.adapter, layer, moved)}
    return {f"{part}{layer}": moved[f"{part}{layer}"]}


def passes(graph: TensorGraph, steps: int, rule: str) -> Passes:
    """A path for each site, of which each scores its own edges."""
    return Passes(
        forward=2,
        gradient=steps * len(list(graph.sites())),
        graphs=1,
        points=1,
        products=steps,
        writes=6,
    )


METHOD = Method(
    name="eap-ig-activations",
    passes=passes,
    score_batch=score_batch,
    reference="arXiv 2403.19647",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={"steps": 5, "rule": "midpoint"},
)
