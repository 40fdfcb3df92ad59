"""Which writers and readers are multiplied together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sae_circuits.graph import Block, TensorGraph

TOGETHER = 64  # readers in a product, at least: fewer multiply slowly


def runs_of(graph: TensorGraph, readers: Sequence[Block]) -> list[tuple[slice, tuple[Block, ...]]]:
    """Runs of blocks of readers, and the writers that they see between them.

    Readers that see fewer join those above them until there are enough for a fast product.

    Args:
        readers: in the graph's order.
    """
    runs: list[tuple[slice, tuple[Block, ...]]] = []
    for depth, equal in groupby(readers, key=lambda block: block.depth):
        (start, stop), blocks = graph.sees(depth), tuple(equal)
        if runs and sum(map(len, runs[-1][1])) < TOGETHER:
            before, first = runs.pop()
            start, blocks = min(start, before.start), first + blocks
        runs.append((slice(start, stop), blocks))
    return runs
