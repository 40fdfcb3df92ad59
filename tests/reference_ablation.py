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


def reference_span_logits(
    model: Any,
    circuit: Any,
    labels: Tensor,
    task: Any,
    *,
    intervention: str = "corrupt",
    direction: str = "noising",
    permutation: Tensor | None = None,
) -> Tensor:
    """The same where a circuit is in at some tokens only.

    Args:
        circuit: a `SpanCircuit`; `labels` says which of its parts each token is in, [n, pos].
    """
    parts, own = split(model, circuit.graph), list(circuit.parts.values())
    masks = [labels == i for i in range(len(own))]
    if direction == "noising":
        to, tokens = replacement(parts, task, intervention, permutation), task.clean
        edited = [(~part, mask) for part, mask in zip(own, masks, strict=True)]
    else:
        to, tokens = forward(parts, task.clean).written, task.corrupt
        edited = list(zip(own, masks, strict=True))
    return at_answers(_run(parts, edited, tokens, to), task)


def _run(
    parts: Split, edited: Circuit | list[tuple[Circuit, Tensor]], tokens: Tensor, to: Written
) -> Tensor:
    """input_r + sum over edited edges of (to_src - current_src), reader by reader."""
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    some = edited if isinstance(edited, list) else [(edited, everywhere)]
    sources = [(edited_sources(parts.graph, own), at) for own, at in some]

    def edit(dest: int, x: Tensor, written: Written) -> Tensor:
        for own, at in sources:
            for src in own[dest]:
                x = torch.where(at[..., None], x - written[src] + to[src], x)
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
