"""Influence: how much of what the logits say passes through each node.

With A row-normalised by absolute value, and p the logits' probabilities, scaled to a sum of 1,

    influence = p^T (1 + A + A^2 + ...)

The graph has no cycle, and blocks of rows come in an order in which a destination's influence is
final when its row is there. So one pass over the rows gives the sum, and no matrix is held.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.tracing.nodes import ERROR, LOGIT, TOKEN, Nodes
from sae_circuits.tracing.rows import Block


def starting_influence(nodes: Nodes) -> Float[Tensor, "node"]:
    """The logits' probabilities, scaled to a sum of 1; 0 elsewhere."""
    p = torch.where(nodes.kind == LOGIT, nodes.activation.double(), 0.0)
    return p / p.sum()


def spread_influence(block: Block, influence: Float[Tensor, "node"]) -> Float[Tensor, "row"]:
    """Add to influences what flows back from a block's destinations.

    Returns:
        For each row, its destination's influence over the sum of the row's absolute values: what
        an edge of weight 1 is worth.
    """
    worth = influence.new_zeros(len(block.dest))
    for run in block.runs:
        size = block.weight[:, run].abs()
        total = size.sum(0, dtype=torch.float64)
        here = influence[block.dest[run]] / torch.where(total > 0, total, torch.inf)
        influence.index_add_(0, block.src, (size @ here.to(size.dtype)).double())
        worth[run] = here
    return worth


def node_influence(nodes: Nodes, blocks: Iterable[Block]) -> Float[Tensor, "node"]:
    """The influence of every node."""
    influence = starting_influence(nodes)
    for block in blocks:
        spread_influence(block, influence)
    return influence


def graph_scores(nodes: Nodes, influence: Float[Tensor, "node"]) -> tuple[float, float]:
    """The replacement and the completeness score of a graph.

    Of the influence that ends at tokens or errors, the share that ends at tokens; and the share of
    all nodes' incoming edges, each node weighted by its influence, that come from no error. Since
    influence is what flows in along those edges, the latter is `1 - errors / all`.
    """
    tokens, errors = (float(influence[nodes.kind == kind].sum()) for kind in (TOKEN, ERROR))
    return tokens / max(tokens + errors, 1e-300), 1 - errors / float(influence.sum())


def most_influential(
    nodes: Nodes, influence: Float[Tensor, "node"], share: float, most: int | None
) -> Int64[Tensor, "some"]:
    """The nodes to keep: tokens, logits, and the fewest that hold a share of influence.

    As published, the tokens' influence counts in the sum; ties go to the earlier node.

    Args:
        share: of the sum over all nodes but the logits; 1 keeps every node.
        most: keep no more features and errors than these.
    """
    fixed = (nodes.kind == TOKEN) | (nodes.kind == LOGIT)
    keep = torch.ones_like(fixed)
    sources = torch.where(nodes.kind == LOGIT, 0.0, influence)
    order = sources.argsort(descending=True, stable=True)
    if share < 1:
        held = sources[order].cumsum(0)
        n = int((held < share * held[-1]).sum()) + 1
        keep = torch.zeros_like(fixed)
        keep[order[:n]] = True
    if most is not None:
        ranked = order[(keep & ~fixed)[order]]
        keep[ranked[most:]] = False
    return (keep | fixed).nonzero()[:, 0]
