"""Random circuits keep what they promise, and depend on their seed alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import RANDOM, architecture, circuits
from sae_circuits.graph import Circuit, TensorGraph
from sae_circuits.prune import random_circuit
from shapes import HOOKED
from small_dictionaries import dictionary

pytestmark = pytest.mark.filterwarnings(f"ignore:{RANDOM}")
SEEDS = st.integers(0, 2**31)


def degrees(circuit: Circuit) -> tuple[list[int], list[int]]:
    """How many edges leave each writer, and how many enter each reader."""
    present = circuit.graph.dense(circuit.mask, fill=False)
    return present.sum(1).tolist(), present.sum(0).tolist()


@given(circuits(), SEEDS)
def test_every_node_keeps_its_number_of_edges_in_and_out(circuit, seed):
    drawn = random_circuit(circuit, seed=seed, degrees=True)
    assert drawn.graph is circuit.graph
    assert degrees(drawn) == degrees(circuit)
    assert random_circuit(circuit, seed=seed, degrees=True) == drawn


@given(circuits(), SEEDS)
def test_circuits_of_equal_size_are_of_equal_size_and_nested(circuit, seed):
    drawn = random_circuit(circuit, seed=seed)
    assert len(drawn) == len(circuit)
    smaller = circuit.with_mask(circuit.mask & (torch.arange(len(circuit.mask)) % 2 == 0))
    assert random_circuit(smaller, seed=seed) <= drawn


def test_bottlenecks_are_kept():
    model = HOOKED["no-norm"]()
    saes = [dictionary(model, "resid_post", 0), dictionary(model, "mlp_out", 1)]
    graph = TensorGraph.from_model(model, saes=saes)
    circuit = Circuit(graph, torch.arange(graph.n_edges) % 3 == 0)
    drawn = random_circuit(circuit, degrees=True)
    assert degrees(drawn) == degrees(circuit)
    assert drawn != circuit
    assert len(drawn & circuit) < 0.7 * len(circuit)


def test_every_circuit_of_the_same_degrees_is_drawn_as_often():
    """One edge out of each of three heads, and one into the queries of each of three: six ways."""
    graph = TensorGraph.from_model(architecture(2, 3, has_mlps=False))
    circuit = Circuit.from_edges(graph, [f"a0.h{i}->a1.h{i}<q>" for i in range(3)])
    found = Counter(random_circuit(circuit, seed=i, degrees=True) for i in range(600))
    assert len(found) == 6
    chi_squared = sum((n - 100) ** 2 / 100 for n in found.values())
    assert chi_squared < 20.5  # the 99.9th percentile of five degrees of freedom


@pytest.mark.parametrize("degree", [False, True])
def test_circuits_that_leave_no_choice_come_back(degree):
    graph = TensorGraph.from_model(architecture())
    for circuit in (Circuit.empty(graph), Circuit.full(graph)):
        assert random_circuit(circuit, degrees=degree) == circuit
    one = Circuit.from_edges(graph, ["input->m0"])
    assert (random_circuit(one, degrees=degree) == one) == degree


# -- what edges are worth where components are split ---------------------------------------------


def test_without_dictionaries_every_edge_counts_as_one():
    graph = TensorGraph.from_model(architecture())
    circuit = Circuit(graph, torch.arange(graph.n_edges) % 4 == 0)
    assert circuit.weighted_edges == len(circuit)


def test_a_part_of_a_component_counts_as_its_share():
    model = HOOKED["gpt2"]()
    whole = TensorGraph.from_model(model)
    mlp = dictionary(model, "mlp_out", 0, n=4)
    graph = TensorGraph.from_model(model, saes=[mlp])  # four features and an error node
    assert Circuit.full(graph).weighted_edges == pytest.approx(whole.n_edges)
    some = ["m0.f0->logits", "m0.f3->logits", "m0.error->logits", "m0.f0->m1", "input->m1"]
    assert Circuit.from_edges(graph, some).weighted_edges == pytest.approx(4 / 5 + 1)


def test_both_ends_of_an_edge_count():
    model = HOOKED["gpt2"]()
    saes = [
        dictionary(model, "mlp_in", layer, writes="mlp_out", n=3) for layer in (0, 1)
    ]  # three features and an error node, as writers and as readers
    graph = TensorGraph.from_model(model, saes=saes)
    assert Circuit.full(graph).weighted_edges == pytest.approx(
        TensorGraph.from_model(model).n_edges
    )
    some = ["m0.f0->m1.f2", "m0.error->m1.f1", "input->m0.f0"]
    assert Circuit.from_edges(graph, some).weighted_edges == pytest.approx(2 / 16 + 1 / 4)
