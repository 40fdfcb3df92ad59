"""Slow recursive ablation on split hook points: every absent edge is edited, in forward order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sae_circuits.graph import Circuit, TensorGraph
from split_run import Split, Written, at_answers, forward, replacement, split


def reference_logits(
    model: Any,
    circuit: Circuit,
    task: Any,
    *,
    intervention: str = "corrupt",
    direction: str = "noising",
    permutation: Tensor | None = None,
) -> Tensor:
    """The logits at the answer positions, [n, vocab], with the circuit's complement intervened on.

    noising: the clean prompts run, and what an absent edge carries is the intervention's value.
    denoising: the corrupt prompts run, and what a present edge carries is the clean run's value.
    Either way the rest of the edges carry what their writer computes in this very run.
    """
    parts = split(model, circuit.graph)
    if direction == "noising":
        to, edited, tokens = (
            replacement(parts, task, intervention, permutation),
            ~circuit,
            task.clean,
        )
    elif direction == "denoising":
        to, edited, tokens = forward(parts, task.clean).written, circuit, task.corrupt
    else:
        raise ValueError(direction)
    return at_answers(_run(parts, edited, tokens, to), task)


def _run(parts: Split, edited: Circuit, tokens: Tensor, to: Written) -> Tensor:
    """input_r + sum over edited edges of (to_src - current_src), reader by reader."""
    sources = edited_sources(parts.graph, edited)

    def edit(dest: int, x: Tensor, written: Written) -> Tensor:
        for src in sources[dest]:
            x = x - written[src] + to[src]
        return x

    with torch.no_grad():
        return forward(parts, tokens, edit_reader=edit).logits


def edited_sources(graph: TensorGraph, circuit: Circuit) -> dict[int, list[int]]:
    """For each reader, the writers whose edge to it stands in the circuit."""
    src = {node: i for i, node in enumerate(graph.src_nodes)}
    dest = {node: i for i, node in enumerate(graph.dest_nodes)}
    found: dict[int, list[int]] = {i: [] for i in range(graph.n_dest)}
    for edge in circuit.edges:
        found[dest[edge.dest]].append(src[edge.src])
    return found
