"""Information flow routes: how much of what a reader sees was written by each writer.

Ferrando and Voita 2024, arXiv 2403.00824. With x_v the stream that v reads at a token, and a_u what
u has added to it there,

    proximity(u, v) = max(|x_v|_1 - |x_v - a_u|_1, 0)
    score(u -> v) = proximity(u, v) / sum_w proximity(w, v)       mean over tokens and examples

for the logits at the answer's position alone. Where no writer comes near x_v, all score zero.

A score is a share, from 0 to 1, of no unit: it has no sign, it depends neither on the metric nor on
the corrupt prompts nor on the intervention, and a head's query, key and value, and all readers of a
layer, have the same. Choose edges by size (`by="abs"`), and best from the logits backwards, with
`prune.best_first`: what a reader sees counts where that reader does.

1 forward pass and no backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.cache.pieces import each_write
from sae_circuits.cache.streams import read_place, streams_of
from sae_circuits.costs.passes import Passes
from sae_circuits.graph import TensorGraph
from sae_circuits.precision import wide

FLOOR = 1e-5  # of |x_v|_1: proximities that add up to less are rounding
CHUNK_BYTES = 64 << 20  # of writes at a time
AT_ONCE = 64  # writers

View = tuple[str, tuple[int, int], bool]
"""The stream that some readers see, the writers in it, and whether at the answers alone."""


@torch.no_grad()
def score_batch(problem: Problem) -> Float[Tensor, "*span src dest"]:
    """Scores of all edges."""
    flow = _Flow(replace(problem, clean_has_graph=False))
    return problem.sum_spans(flow.shares)


@dataclass(frozen=True)
class _Flow:
    problem: Problem

    def shares(self, tokens: Int64[Tensor, "token"]) -> Float[Tensor, "src dest"]:
        """Each writer's share in what each reader sees, summed over some tokens by their weight."""
        problem, graph = self.problem, self.problem.graph
        streams = streams_of(problem.adapter, problem.clean.writes)
        views: dict[View, list[slice]] = {}
        for start, block in graph.dest_starts.values():
            place = read_place(problem.adapter.architecture, block)
            view = place, graph.sees(block.depth), block.layer is None
            views.setdefault(view, []).append(slice(start, start + len(block)))
        total = torch.zeros(
            graph.n_src, graph.n_dest, dtype=torch.float64, device=problem.adapter.device
        )
        for of_answers in (False, True):
            some = [view for view in views if view[2] == of_answers]
            weight = self._weight(of_answers)[tokens]
            real = weight > 0
            for view, share in self._shares(some, streams, tokens[real], weight[real]):
                for readers in views[view]:
                    total[slice(*view[1]), readers] = share[:, None]
        return total

    def _shares(
        self,
        views: Sequence[View],
        streams: Mapping[str, Tensor],
        tokens: Int64[Tensor, "real"],
        weight: Float[Tensor, "real"],
    ) -> Iterator[tuple[View, Float[Tensor, "src"]]]:
        totals = [weight.new_zeros(end - first) for _, (first, end), _ in views]
        d_model = self.problem.adapter.architecture.d_model
        size = max(
            1,
            self.problem.within(CHUNK_BYTES)
            // (8 * d_model * min(AT_ONCE, self.problem.graph.n_src)),
        )
        for some, w in zip(tokens.split(size), weight.split(size), strict=True):
            each = [streams[place].flatten(0, 1)[some] for place, _, _ in views]
            each = [wide(x) for x in each]
            for total, x, near in zip(totals, each, self._near(views, each, some), strict=True):
                floor = FLOOR * _size(x).clamp(min=torch.finfo(x.dtype).tiny)
                total += (near / near.sum(0).maximum(floor)).double() @ w
        yield from zip(views, totals, strict=True)

    def _near(
        self,
        views: Sequence[View],
        streams: Sequence[Float[Tensor, "token d_model"]],
        some: Int64[Tensor, "token"],
    ) -> list[Float[Tensor, "seen token"]]:
        """The proximity of the writers of each view, every writer made once for all of them."""
        problem = self.problem
        saes, writes = {placed.name: placed for placed in problem.saes}, problem.clean.writes
        seen = min(at for _, (at, _), _ in views), max(end for _, (_, end), _ in views)
        sizes = [_size(x) for x in streams]
        near = [
            x.new_empty(end - at, len(x))
            for (_, (at, end), _), x in zip(views, streams, strict=True)
        ]
        for ids, a in each_write(problem.adapter, problem.graph, saes, writes, some, seen, AT_ONCE):
            for (_, (at, end), _), x, size, out in zip(views, streams, sizes, near, strict=True):
                first, last = max(at, ids.start), min(end, ids.stop)
                if first < last:
                    rest = (x - a[first - ids.start : last - ids.start]).abs_().sum(-1)
                    out[first - at : last - at] = (size - rest).clamp(min=0)
        return near

    def _weight(self, of_answers: bool) -> Float[Tensor, "token"]:
        """What each token of the batch counts, 1 in all for each example: the answer's, or all."""
        batch, device = self.problem.batch, self.problem.adapter.device
        n, pos = batch.clean.shape
        weight = torch.zeros(n, pos, dtype=torch.float64, device=device)
        if of_answers:
            weight[torch.arange(n, device=device), batch.position.to(device)] = 1
            return weight.flatten()
        lengths = batch.lengths.to(device)[:, None]
        real = torch.arange(pos, device=device) < lengths
        return (real / lengths.double()).flatten()


def _size(x: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any"]:
    return x.abs().sum(-1)


def passes(graph: TensorGraph, **_: Any) -> Passes:
    """One run, and what heads write: of each, and of all together for the streams."""
    return Passes(
        forward=1,
        gradient=0,
        graphs=0,
        points=0,
        products=0,
        writes=3,
        heads=2,
        space=CHUNK_BYTES,
        spaces=2,
    )


METHOD = Method(
    name="information-flow",
    passes=passes,
    score_batch=score_batch,
    reference="arXiv 2403.00824",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    estimates_effect=False,
    in_metric_unit=False,
    levels=("edges", "spans"),
)
