from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_circuits.errors import FileFormatError, GraphError
from sae_circuits.graph import Architecture, Circuit, TensorGraph
from sae_circuits.io import export_eap_ig, import_eap_ig
from small_circuits import by_hand, graph_of, random_circuit

CONFIG = {"n_layers": 1, "n_heads": 1, "parallel_attn_mlp": False, "d_model": 8}
# As `Graph.to_json` writes the graph of one layer of one head.
DOCUMENT: dict[str, Any] = {
    "cfg": CONFIG,
    "nodes": {
        "input": {"in_graph": True},
        "a0.h0": {"in_graph": True},
        "m0": {"in_graph": False},
        "logits": {"in_graph": True},
    },
    "edges": {
        "input->a0.h0<q>": {"score": 0.5, "in_graph": True},
        "input->a0.h0<k>": {"score": -0.25, "in_graph": False},
        "input->a0.h0<v>": {"score": 0.0, "in_graph": False},
        "input->m0": {"score": 2.0, "in_graph": True},
        "a0.h0->m0": {"score": 1.0, "in_graph": False},
        "input->logits": {"score": 3.0, "in_graph": True},
        "a0.h0->logits": {"score": 4.0, "in_graph": True},
        "m0->logits": {"score": 5.0, "in_graph": True},
    },
}


def written(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(document))
    return path


def test_a_graph_is_read_with_its_scores_in_our_sign(tmp_path: Path) -> None:
    circuit = import_eap_ig(written(tmp_path, DOCUMENT))
    # Edges at m0 are out, since the node is.
    assert [edge.name for edge in circuit.edges] == [
        "input->a0.h0<q>", "input->logits", "a0.h0->logits",
    ]  # fmt: skip
    assert circuit.scores is not None
    assert circuit.scores["a0.h0->logits"] == -4.0
    assert circuit.scores["input->a0.h0<k>"] == 0.25
    assert str(circuit.scores["input->a0.h0<v>"]) == "0.0"
    assert circuit.graph.architecture.d_model == 8


def test_nodes_of_older_files_are_bare_booleans(tmp_path: Path) -> None:
    nodes = {name: node["in_graph"] for name, node in DOCUMENT["nodes"].items()}
    old = import_eap_ig(written(tmp_path, {**DOCUMENT, "nodes": nodes}))
    assert old == import_eap_ig(written(tmp_path, DOCUMENT))


def test_an_edge_that_is_not_listed_is_out(tmp_path: Path) -> None:
    some = {name: DOCUMENT["edges"][name] for name in ("a0.h0->logits",)}
    circuit = import_eap_ig(written(tmp_path, {**DOCUMENT, "edges": some}))
    assert [edge.name for edge in circuit.edges] == ["a0.h0->logits"]


def test_export_is_the_inverse(tmp_path: Path) -> None:
    for circuit in (by_hand(), random_circuit(3, 2, 50)):
        path = export_eap_ig(circuit, tmp_path / "graph.json")
        back = import_eap_ig(path, circuit.graph)
        assert back == circuit
        assert circuit.scores is not None
        assert back.scores is not None
        assert torch.equal(back.scores.values, circuit.scores.values)
    document = json.loads(path.read_text())
    assert document["cfg"] == {
        "n_layers": 3, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 16,
    }  # fmt: skip
    assert len(document["edges"]) == circuit.graph.n_edges


def test_a_grouped_model_is_read_with_its_heads_split(tmp_path: Path) -> None:
    shape = Architecture("gqa", 1, 2, 1, 8, 4, 10, 16)
    split = TensorGraph.from_model(shape, split_kv=True)
    path = export_eap_ig(Circuit.from_edges(split, ["input->a0.h1<k>"]), tmp_path / "graph.json")
    assert import_eap_ig(path, split).graph is split
    with pytest.raises(GraphError, match=r"split_kv=True|does not read"):
        import_eap_ig(path, TensorGraph.from_model(shape))
    with pytest.raises(GraphError, match="split_kv=True"):
        export_eap_ig(Circuit.full(TensorGraph.from_model(shape)), path)


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    path = export_eap_ig(by_hand(), tmp_path / "graph.json")
    with pytest.raises(GraphError, match=r"graph\.json' does not fit TensorGraph\('toy'"):
        import_eap_ig(path, graph_of(1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": {"a0.h0->logits": {"score": float("inf"), "in_graph": True}}}, "Infinity"),
        ({"edges": {"a0.h0->logits": {"in_graph": True}}}, "'score'"),
        ({"edges": []}, "needs 'cfg', 'nodes' and 'edges'"),
        ({"cfg": {}}, "needs 'cfg', 'nodes' and 'edges'"),
        ({"cfg": {**CONFIG, "n_layers": -1}}, "impossible sizes"),
        ({"nodes": {"m0": {"in_graph": True, "neurons": [True, False]}}}, "circuits of neurons"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(FileFormatError, match=message):
        import_eap_ig(written(tmp_path, {**DOCUMENT, **change}))


def test_pt_files_are_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(DOCUMENT, tmp_path / "graph.pt")
    with pytest.raises(FileFormatError, match=r"is a pickle.*to_json"):
        import_eap_ig(tmp_path / "graph.pt")
