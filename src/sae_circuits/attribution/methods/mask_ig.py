"""Integrated gradients of all edges' masks, moved together from clean (0) to corrupt (1).

The mask gradient of AutoCircuit (Miller, Chughtai and Saunders 2024, arXiv 2407.08734), integrated.
Where every mask is a, a reader v sees, of each writer u, what u writes in that very run some of
the way towards what it would write:

    x_v = sum_u (1 - a) u_now + a u_corrupt
    score(u -> v) = (u_corrupt - u_now) . g_v                       mean over a

Since every edge carries the same mixture, a reader sees the run's own stream the same part of the
way towards the corrupt one, and a point costs one run of the model. The scores of all edges add up
to m(corrupt) - m(clean), with an error that falls as 1 / steps^2 (`midpoint`) or 1 / steps
(`left`). So a score is an edge's share in the whole effect, which the edges along a path divide
between them.

2 + steps forward passes and `steps` backward.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.kernel import score_edges
from sae_circuits.attribution.method import Method, path_points
from sae_circuits.attribution.problem import Problem
from sae_circuits.cache.streams import streams_of
from sae_circuits.cache.toward import Toward
from sae_circuits.costs.passes import Passes
from sae_circuits.errors import OptionError
from sae_circuits.graph import TensorGraph


def score_batch(problem: Problem, steps: int, rule: str) -> Float[Tensor, "*span src dest"]:
    """Scores of all edges, point by point."""
    path = path_points(steps, rule)
    _require_one_stream(problem)
    problem = replace(problem, clean_has_graph=False)
    streams = streams_of(problem.adapter, problem.replacement)
    total = problem.zeros()
    for where, weight in path:
        total += weight * _scored(problem, Toward(streams, 1 - where))
    return total


def _scored(problem: Problem, toward: Toward) -> Float[Tensor, "*span src dest"]:
    """The scores at one point; its run goes with this call."""
    now = problem.run(problem.batch.clean, grad=True, toward=toward)
    change, g = problem.replacement - now.writes, problem.gradients(now)
    del now

    def at(tokens: Int64[Tensor, "token"]) -> Float[Tensor, "src dest"]:
        how = problem.adapter, problem.graph, problem.saes, change, g, tokens
        return score_edges(*how, space=problem.space)

    return problem.sum_spans(at)


def _require_one_stream(problem: Problem) -> None:
    cut = [placed.name for placed in problem.saes if placed.part in ("pre", "mid", "post")]
    if cut:
        raise OptionError(
            f"method 'mask-ig' moves what readers see of one stream, and {cut[0]} cuts it in two: "
            "use dictionaries of attention and MLPs, or another method, such as 'eap-ig'"
        )


def passes(graph: TensorGraph, steps: int, rule: str) -> Passes:
    """A gradient at each point, with changes of its own."""
    return Passes(forward=2, gradient=steps, graphs=1, points=1, products=steps, writes=7)


METHOD = Method(
    name="mask-ig",
    passes=passes,
    score_batch=score_batch,
    reference="arXiv 2407.08734",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={"steps": 5, "rule": "midpoint"},
    estimates_effect=False,
    levels=("edges", "spans"),
)
