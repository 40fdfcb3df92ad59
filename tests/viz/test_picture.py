from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sae_circuits.graph import Circuit
from sae_circuits.viz import picture
from sae_circuits.viz.picture import COLOURS, PictureEdge, PictureNode
from small_circuits import by_hand, graph_of, random_circuit


def test_nodes_stand_in_rows_along_the_forward_pass() -> None:
    qkv = ("q", "k", "v")
    assert picture(by_hand()).nodes == (
        PictureNode("input", "input", None, 0),
        PictureNode("a0.h1", "head", 0, 1, qkv),
        PictureNode("m0", "mlp", 0, 2),
        PictureNode("a1.h0", "head", 1, 3, qkv),
        PictureNode("logits", "logits", None, 4),
    )


def test_edges_carry_port_width_by_size_and_colour_by_sign() -> None:
    edges = {edge.name: edge for edge in picture(by_hand()).edges}
    assert edges["a1.h0->logits"] == PictureEdge(
        "a1.h0->logits", "a1.h0", "logits", None, -4.0, 5.0, "helps"
    )
    assert edges["a0.h1->a1.h0<k>"] == PictureEdge(
        "a0.h1->a1.h0<k>", "a0.h1", "a1.h0", "k", -1.0, 1.7, "helps"
    )
    assert edges["input->m0"].effect == "hurts"
    assert edges["input->m0"].width == pytest.approx(0.6 + 4.4 / 8)
    assert edges["m0->a1.h0<q>"].effect == "unknown"  # a score of zero has no sign
    assert edges["m0->a1.h0<q>"].width == 0.6
    assert edges["a1.h0->logits"].colour == COLOURS["helps"]


def test_title_and_unit_come_from_the_record() -> None:
    drawn = picture(by_hand())
    assert drawn.title == "toy · ioi · eap-ig · 5 of 46 edges"
    assert (drawn.metric, drawn.largest) == ("logit_diff", 4.0)
    assert drawn.effects == ("helps", "hurts", "unknown")
    assert picture(by_hand(), title="mine").title == "mine"


def test_without_scores_every_edge_is_drawn_alike() -> None:
    drawn = picture(replace(by_hand(), scores=None))
    assert {(edge.width, edge.effect, edge.score) for edge in drawn.edges} == {
        (1.2, "unknown", None)
    }
    assert drawn.largest is None


def test_shared_heads_stand_below_their_query_heads_and_are_linked() -> None:
    graph = graph_of(1, 4, 2)
    edges = ["input->a0.kv0<k>", "input->a0.h1<q>", "a0.h1->logits", "a0.h2->logits"]
    drawn = picture(Circuit.from_edges(graph, edges))
    rows = {node.name: (node.row, node.ports) for node in drawn.nodes}
    assert rows["a0.kv0"] == (1, ("k", "v"))
    assert rows["a0.h1"] == (2, ("q",))
    assert drawn.links == (("a0.kv0", "a0.h1"),)
    assert drawn.row_names == {1: "layer 0"}


def test_of_too_many_edges_the_strongest_are_drawn_and_the_title_says_so() -> None:
    circuit = random_circuit(2, 2, 40)
    drawn = picture(circuit, max_edges=10)
    assert circuit.scores is not None
    assert {edge.name for edge in drawn.edges} == {name for name, _ in circuit.scores.top(10)}
    assert drawn.title == "toy · 40 of 46 edges, the 10 strongest drawn"


def test_an_empty_circuit_is_an_empty_picture() -> None:
    drawn = picture(Circuit.empty(graph_of(1, 1)))
    assert (drawn.nodes, drawn.edges, drawn.n_rows) == ((), (), 0)


def test_scores_on_another_device_or_dtype_are_read() -> None:
    circuit = by_hand()
    assert circuit.scores is not None
    half = replace(circuit.scores, values=circuit.scores.values.to(torch.bfloat16))
    assert picture(replace(circuit, scores=half)) == picture(circuit)
