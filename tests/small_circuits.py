"""Circuits small enough to check by hand, and random ones of any size."""

from __future__ import annotations

import torch

from sae_circuits.graph import Architecture, Circuit, Provenance, Scores, TensorGraph


def graph_of(n_layers: int, n_heads: int, n_kv_heads: int | None = None) -> TensorGraph:
    return TensorGraph.from_model(
        Architecture("toy", n_layers, n_heads, n_kv_heads or n_heads, 16, 4, 50, 32)
    )


def by_hand() -> Circuit:
    """Five edges of two layers of two heads, one of each kind."""
    graph = graph_of(2, 2)
    values = torch.zeros(graph.n_edges)
    scored = {
        "input->a0.h1<v>": -2.0,
        "input->m0": 0.5,
        "a0.h1->a1.h0<k>": -1.0,
        "m0->a1.h0<q>": 0.0,
        "a1.h0->logits": -4.0,
    }
    for edge, value in scored.items():
        values[graph.edge_id(edge)] = value
    made = Provenance(method="eap-ig", task="ioi", metric="logit_diff")
    return Circuit.from_edges(graph, scored, Scores(graph, values, made))


def random_circuit(
    n_layers: int, n_heads: int, n_edges: int, n_kv_heads: int | None = None
) -> Circuit:
    """The n edges of largest random score."""
    graph = graph_of(n_layers, n_heads, n_kv_heads)
    scores = Scores(graph, torch.randn(graph.n_edges, generator=torch.Generator().manual_seed(0)))
    mask = torch.zeros(graph.n_edges, dtype=torch.bool)
    mask[scores.order()[:n_edges]] = True
    return Circuit(graph, mask, scores)
