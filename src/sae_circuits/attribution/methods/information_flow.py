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

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.cache.pieces import each_write
from sae_circuits.cache.streams import read_place, streams_of
from sae_circuits.graph import Block

FLOOR = 1e-5  # of |x_v|_1: proximities that add up to less are rounding
CHUNK_BYTES = 64 << 20  # of writes at a time


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
        total = torch.zeros(
            graph.n_src, graph.n_dest, dtype=torch.float64, device=problem.adapter.device
        )
        found: dict[tuple[str, tuple[int, int]], Tensor] = {}
        for start, block in graph.dest_starts.values():
            place, seen = read_place(problem.adapter.architecture, block), graph.sees(block.depth)
            if (place, seen) not in found:
                weight = self._weight(block)[tokens]
                real = weight > 0
                found[place, seen] = self._shares(
                    streams[place].flatten(0, 1), tokens[real], weight[real], seen
                )
            total[slice(*seen), start : start + len(block)] = found[place, seen][:, None]
        return total

    def _shares(
        self,
        stream: Float[Tensor, "token d_model"],
        tokens: Int64[Tensor, "real"],
        weight: Float[Tensor, "real"],
        seen: tuple[int, int],
    ) -> Float[Tensor, "src"]:
        total = weight.new_zeros(seen[1] - seen[0])
        row = stream.shape[1] * 8 * min(64, len(total))
        size = max(1, CHUNK_BYTES // row) if row else 1
        for some, w in zip(tokens.split(size), weight.split(size), strict=True):
            x = stream[some].to(torch.promote_types(stream.dtype, torch.float32))
            near = torch.cat(list(self._proximities(x, some, seen)))
            floor = FLOOR * x.abs().sum(-1).clamp(min=torch.finfo(x.dtype).tiny)
            total += (near / near.sum(0).maximum(floor)).double() @ w
        return total

    def _proximities(
        self, x: Float[Tensor, "token d_model"], some: Int64[Tensor, "token"], seen: tuple[int, int]
    ) -> Iterator[Float[Tensor, "src token"]]:
        """Those of some writers at a time, in order."""
        problem = self.problem
        saes = {placed.name: placed for placed in problem.saes}
        writes, size = problem.clean.writes, x.abs().sum(-1)
        for _, a in each_write(problem.adapter, problem.graph, saes, writes, some, seen, 64):
            yield (size - (x - a).abs().sum(-1)).clamp(min=0)

    def _weight(self, reader: Block) -> Float[Tensor, "token"]:
        """What each token of the batch counts for a reader: 1 in all for each example."""
        batch, device = self.problem.batch, self.problem.adapter.device
        n, pos = batch.clean.shape
        weight = torch.zeros(n, pos, dtype=torch.float64, device=device)
        if reader.layer is None:
            weight[torch.arange(n, device=device), batch.position.to(device)] = 1
            return weight.flatten()
        lengths = batch.lengths.to(device)[:, None]
        real = torch.arange(pos, device=device) < lengths
        return (real / lengths.double()).flatten()


METHOD = Method(
    name="information-flow",
    score_batch=score_batch,
    reference="arXiv 2403.00824",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    estimates_effect=False,
    in_metric_unit=False,
    levels=("edges", "spans"),
)
