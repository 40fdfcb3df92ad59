"""ACDC: greedy removal of edges, from the logits backwards, while the metric changes little.

Conmy et al. 2023, arXiv 2304.14997. With H the edges that are left, each edge is visited once,

    change(e) = m(H without e) - m(H),  and e goes where change(e) counts less than the threshold.

All edges into earlier readers are still there when one is visited, so that what lies before it is
the clean run; after it, only what still sees the change is run (see `ablation/partial.py`).

The score of an edge that stays is its change, and 0 of one that goes, so that
`prune.threshold(scores, threshold, by=by)` is the circuit. What counts is the change's size; the
paper has metric="kl" and by="hurt": an edge whose loss brings the run nearer to the model goes too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation.partial import Partial, Remaining
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.searches import require_positive, sweep_of, without_graphs
from sae_circuits.costs.passes import Passes
from sae_circuits.errors import OptionError
from sae_circuits.graph import TensorGraph
from sae_circuits.precision import wide_dtype
from sae_circuits.progress import track
from sae_circuits.prune.keys import ranked

ORDERS = ("reverse", "forward", "random")


@torch.no_grad()
def search(
    problems: Sequence[Problem], threshold: float, by: str, order: str, seed: int
) -> Float[Tensor, "src dest"]:
    """The change that each edge that stays brought when it was visited.

    Args:
        threshold: in the metric's unit, above 0.
        by: what counts: the change's size ("abs"), that it lowers the metric ("help") or that it
            raises it ("hurt").
        order: of the edges into one reader: the writers nearest to it first ("reverse"), the
            earliest first ("forward"), or a seeded order ("random").
    """
    require_positive("threshold", threshold)
    if order not in ORDERS:
        raise OptionError(f"order={order!r}: one of {', '.join(map(repr, ORDERS))}")
    ranked(torch.zeros(1), by)
    graph, n = problems[0].graph, sum(len(problem.batch) for problem in problems)
    problems = without_graphs(problems)
    sweeps = [sweep_of(problem) for problem in problems]
    left = Remaining.all_of(sweeps[0])
    runs = [Partial.start(sweep, left) for sweep in sweeps]
    dtype = wide_dtype(problems[0].adapter.dtype)
    scores = torch.zeros(graph.n_src, graph.n_dest, dtype=dtype)

    def value(logits: Sequence[Tensor]) -> Tensor:
        pairs = zip(problems, logits, strict=True)
        return torch.stack([p.measure(x).double().sum() for p, x in pairs]).sum().cpu() / n

    now = value([run.logits() for run in runs])
    edges = edges_backwards(problems[0], order, seed)
    for src, dest in track(edges, total=graph.n_edges, description="acdc"):
        left.plan.edges[src, dest] = False
        sites = left.after(dest)
        if sites is None:
            continue
        new = value([run.run(sites) for run in runs])
        change = (new - now).to(dtype)  # compared as it is kept
        if bool(ranked(change[None], by) < threshold):
            now = new
            continue
        scores[src, dest] = change
        left.plan.edges[src, dest] = True
        for run in runs:
            run.undo()
    return scores


def edges_backwards(problem: Problem, order: str, seed: int) -> list[tuple[int, int]]:
    """All edges, as writer and reader, from the last reader to the first."""
    generator, found = torch.Generator().manual_seed(seed), list[tuple[int, int]]()
    for dest in reversed(range(problem.graph.n_dest)):
        start, stop = problem.graph.seen[dest].tolist()
        writers = torch.arange(start, stop)
        if order == "reverse":
            writers = writers.flip(0)
        elif order == "random":
            writers = writers[torch.randperm(len(writers), generator=generator)]
        found.extend((src, dest) for src in writers.tolist())
    return found


def passes(graph: TensorGraph, **_: Any) -> Passes:
    """A part of a run for every edge; all batches wait for the next."""
    return Passes(
        forward=2,
        gradient=0,
        graphs=0,
        points=0,
        products=0,
        vectors=2,
        writes=8,
        whole=True,
        visits=True,
    )


METHOD = Method(
    name="acdc",
    passes=passes,
    search=search,
    estimates_effect=False,
    in_metric_unit=False,
    levels=("edges",),
    reference="arXiv 2304.14997",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={"threshold": 0.01, "by": "abs", "order": "reverse", "seed": 0},
)
