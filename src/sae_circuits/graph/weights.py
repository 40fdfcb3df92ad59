"""What an edge is worth where components are split: its share of an edge of the unsplit graph."""

from __future__ import annotations

from collections import Counter

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.graph.blocks import Block
from sae_circuits.graph.tensor_graph import TensorGraph


def weight_of(graph: TensorGraph, mask: Bool[Tensor, "edge"]) -> float:
    """How many edges of the unsplit graph those of a mask are worth.

    The sum over the edges of one over the numbers of parts of what its ends are parts of.

        w(u -> v) = 1 / (parts of what u is a part of) / (parts of what v is a part of)

    A component that is not split has one part. Features, error node and skip term of one dictionary
    are the parts of what it splits: an MLP, all heads of a layer, or the stream. So an edge from a
    component of which a half of the parts are in counts as a half, and all edges between two
    components count as one. Neurons are parts of their MLP, or of their head.

    Reference: Mueller et al. 2025, arXiv 2504.13151 (whose parts are a component's neurons).
    """
    src, dest = graph.ends(mask.nonzero()[:, 0].cpu())
    n_heads = graph.architecture.n_heads
    return float((_each(graph.writers, n_heads)[src] * _each(graph.readers, n_heads)[dest]).sum())


def _each(blocks: tuple[Block, ...], n_heads: int) -> Float[Tensor, "node"]:
    """One over the number of parts, for each node."""
    by_head = {(block.site, block.layer) for block in blocks if block.each is not None}
    parts: Counter[tuple[object, ...]] = Counter()
    for block in blocks:
        parts[block.site, block.layer] += len(block)
    share = [
        (n_heads if (b.site, b.layer) in by_head else 1) / parts[b.site, b.layer]
        if b.is_split
        else 1.0
        for b in blocks
    ]
    counts = torch.tensor([len(block) for block in blocks])
    return torch.tensor(share, dtype=torch.float64).repeat_interleave(counts)
