"""Edges that hold most of the influence in a pruned graph, and what they leave connected.

An edge's score is its share of its destination's row, times the destination's influence, both in
the graph of the nodes that were kept. The scores of all edges are never sorted: a first pass adds
them up in bins of their binary logarithm (256 bins for each power of two), which says in which bin
the wanted share is reached, and a second pass collects the edges from that bin on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.tracing.influence import spread_influence, starting_influence
from sae_circuits.tracing.nodes import ERROR, FEATURE, Nodes
from sae_circuits.tracing.rows import Block

SHIFT = 44  # bits of a float64 below its exponent and the first 8 of its fraction
N_BINS = 1 << (63 - SHIFT)


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges between nodes before pruning."""

    src: Int64[Tensor, "edge"]
    dest: Int64[Tensor, "edge"]
    weight: Float[Tensor, "edge"]

    def __getitem__(self, some: Tensor) -> Edges:
        return Edges(self.src[some], self.dest[some], self.weight[some])


def strongest_edges(nodes: Nodes, blocks: Callable[[], Iterable[Block]], share: float) -> Edges:
    """The fewest edges that hold a share of all scores; ties go to the earlier edge.

    Args:
        blocks: gives the pruned graph's rows, each time that it is called.
        share: 1 keeps every edge that is not 0.
    """
    influence = starting_influence(nodes)
    worth = torch.zeros_like(influence)
    held = influence.new_zeros(N_BINS)
    for block in blocks():
        worth[block.dest] = spread_influence(block, influence)
        if share < 1:
            score = _scores(block, worth)
            held.index_add_(0, _bins(score).flatten(), score.flatten())
    above = held.flip(0).cumsum(0).flip(0)  # of each bin and all that are higher
    wanted = share * float(above[0])
    cut = max(int((above >= wanted).sum()) - 1, 0) if share < 1 else -1
    sure, close, scores = list[Edges](), list[Edges](), list[Tensor]()
    for block in blocks():
        score = _scores(block, worth)
        bins = _bins(score)
        there = block.weight != 0
        sure.append(_edges(block, there & (bins > cut)))
        close.append(_edges(block, there & (bins == cut)))
        scores.append(score.T[(there & (bins == cut)).T])
    found, last, score = _joined(sure), _joined(close), torch.cat(scores)
    order = _sorted(last)
    order = order[score[order].argsort(descending=True, stable=True)]
    so_far = float(above[cut + 1]) if cut + 1 < N_BINS and share < 1 else 0.0
    n = int((so_far + score[order].cumsum(0) < wanted).sum()) + 1
    found = _joined([found, last[order[:n]]])
    return found[_sorted(found)]


def _scores(block: Block, worth: Float[Tensor, "node"]) -> Float[Tensor, "source row"]:
    return block.weight.abs().double() * worth[block.dest]


def _bins(score: Float[Tensor, "source row"]) -> Int64[Tensor, "source row"]:
    """The bits of a float64 that is not negative grow with it."""
    return score.view(torch.int64) >> SHIFT


def _edges(block: Block, which: Bool[Tensor, "source row"]) -> Edges:
    row, column = which.T.nonzero(as_tuple=True)
    return Edges(block.src[column], block.dest[row], block.weight[column, row])


def _joined(parts: list[Edges]) -> Edges:
    return Edges(*(torch.cat([getattr(p, f) for p in parts]) for f in ("src", "dest", "weight")))


def _sorted(edges: Edges) -> Int64[Tensor, "edge"]:
    """An order by destination, then source."""
    order = edges.src.argsort(stable=True)
    return order[edges.dest[order].argsort(stable=True)]


def without_dead_ends(
    nodes: Nodes, kept: Int64[Tensor, "some"], edges: Edges
) -> tuple[Int64[Tensor, "left"], Edges]:
    """Drop features and errors that lead nowhere, and features to which nothing leads.

    Repeated until none is left, since each may have been the only neighbour of another.
    """
    needs_in = nodes.kind == FEATURE
    needs_out = needs_in | (nodes.kind == ERROR)
    alive = torch.zeros_like(needs_in)
    alive[kept] = True
    while True:
        leaves, arrives = torch.zeros_like(alive), torch.zeros_like(alive)
        leaves[edges.src], arrives[edges.dest] = True, True
        stays = alive & (leaves | ~needs_out) & (arrives | ~needs_in)
        if bool((stays == alive).all()):
            return alive.nonzero()[:, 0], edges
        alive = stays
        edges = edges[(alive[edges.src] & alive[edges.dest]).nonzero()[:, 0]]
