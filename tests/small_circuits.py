"""Circuits small enough to check by hand, and random ones of any size."""

from __future__ import annotations

import math

import torch

from sae_circuits.evaluation import Curve, Minimality, Report
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


def small_curve() -> Curve:
    return Curve(
        fractions=(0.01, 0.1, 1.0),
        n_edges=(0, 4, 46),
        values=(0.5, 2.5, 3.0),
        random_values=((0.5, 0.75, 3.0), (0.5, 0.5, 3.0)),
        clean=3.0,
        corrupt=0.5,
        provenance=Provenance(method="eap-ig", metric="logit_diff"),
        degrees_values=((0.5, 1.5, 3.0),),
        band=((-0.25, 0.125), (0.625, 0.875), (1.0, 1.0)),
        intervals={"cpr": (0.75, 0.875), "cmd": (0.125, 0.25)},
        examples={
            "values": torch.tensor([[0.5, 0.5], [2.0, 3.0], [2.5, 3.5]]).double(),
            "clean": torch.tensor([2.5, 3.5]).double(),
            "corrupt": torch.tensor([0.5, 0.5]).double(),
        },
        weighted_edges=(0.0, 4.0, 46.0),
        pruner="top_n",
    )


def small_minimality() -> Minimality:
    """Of the circuit by hand: `input->m0` hurts, and `m0->a1.h0<q>` does nothing."""
    circuit = by_hand()
    lost = {
        "input->m0": -0.125,
        "m0->a1.h0<q>": 0.0,
        "a0.h1->a1.h0<k>": 0.25,
        "input->a0.h1<v>": 0.5,
        "a1.h0->logits": 1.0,
    }
    values = torch.tensor(list(lost.values()), dtype=torch.float64)
    ends = torch.stack([values - 0.0625, values + 0.0625], 1)
    ids = torch.tensor([circuit.graph.edge_id(name) for name in lost])
    made = Provenance(method="eap-ig", metric="logit_diff")
    return Minimality(circuit, ids, -2.5 * values, values, -2.5 * ends.flip(1), ends, 0.8, made)


def small_report(curve: Curve | None = None) -> Report:
    """Four examples, whose means are: clean 3, corrupt 0.5, circuit 2.5, complement 1."""
    columns = {
        "clean": [3.0, 2.0, 4.0, 3.0],
        "corrupt": [0.5, 0.5, 1.0, 0.0],
        "circuit": [2.5, 2.0, 3.5, 2.0],
        "complement": [1.0, 1.0, 2.0, 0.0],
        "accuracy": [1.0, 1.0, 1.0, 0.0],
        "clean_accuracy": [1.0, 1.0, 1.0, 1.0],
        "corrupt_accuracy": [1.0, 0.0, 0.0, 0.0],
        "faithfulness": [0.8, 1.0, 0.83, math.nan],
        "completeness": [0.2, 1 / 3, 1 / 3, 0.0],
    }
    examples = {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}
    made = Provenance(
        "eap-ig", "toy", "ioi", "logit_diff", n_examples=4, seed=0, options={"steps": 5}
    )
    return Report(by_hand(), examples, dict.fromkeys(columns, (0.25, 0.75)), made, curve)
