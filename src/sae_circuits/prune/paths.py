"""Which edges of a circuit can matter at all: those on a path from the input to the logits."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from sae_circuits.graph import Circuit, TensorGraph


def path_mask(graph: TensorGraph, mask: Bool[Tensor, "edge"]) -> Bool[Tensor, "edge"]:
    """Which edges of a mask lie on a path of the mask's edges from the input to the logits.

    What reaches a reader goes on to the writers of its component. One sweep along the forward
    pass finds what the input reaches, one sweep back what reaches the logits; an edge stays when
    both hold of its ends, so that one application is the fixpoint.
    """
    present = graph.dense(mask.cpu(), fill=False)  # [src, dest]
    readers_of = [list(readers) for readers in graph.readers_of]
    reached = torch.zeros(graph.n_src, dtype=torch.bool)
    for src, node in enumerate(graph.src_nodes):
        reached[src] = node.kind == "input" or (present[:, readers_of[src]].T & reached).any()
    useful_dest = torch.tensor([node.kind == "logits" for node in graph.dest_nodes])
    useful_src = torch.zeros(graph.n_src, dtype=torch.bool)
    for src in reversed(range(graph.n_src)):
        useful_src[src] = (present[src] & useful_dest).any()
        if useful_src[src]:
            useful_dest[readers_of[src]] = True
    kept = present & (reached & useful_src)[:, None] & useful_dest
    return graph.flat(kept).to(mask.device)


def drop_dead_nodes(circuit: Circuit) -> Circuit:
    """Remove the edges that lie on no path from the input to the logits.

    Under the `corrupt` intervention the removed edges change nothing: a node that the input does
    not reach keeps its corrupt value, and nothing sees a node that does not reach the logits.
    """
    return circuit.with_mask(path_mask(circuit.graph, circuit.mask))
