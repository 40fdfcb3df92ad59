from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from sae_circuits.errors import FileFormatError, GraphError, OutputError
from sae_circuits.graph import AttributionGraph, Node, parse_node
from sae_circuits.io import from_neuronpedia, to_neuronpedia
from small_graphs import assert_same_graph, traced, traced_graphs

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def theirs(node_id: str, layer: str, at: int, said: str, **more: Any) -> dict[str, Any]:
    return {
        "node_id": node_id, "feature": 0, "layer": layer, "ctx_idx": at, "feature_type": said,
        "token_prob": 0.0, "is_target_logit": False, "run_idx": 0, "reverse_ctx_idx": 0,
        "jsNodeId": node_id, "clerp": "", "influence": None, "activation": None, **more,
    }  # fmt: skip


CLT, ERROR = "cross layer transcoder", "mlp reconstruction error"
# As circuit-tracer writes a graph of 26 layers: features, errors, tokens, logits.
DOCUMENT: dict[str, Any] = {
    "metadata": {
        "slug": "toy", "scan": "gemma-2-2b", "transcoder_list": [], "schema_version": 1,
        "prompt_tokens": ["<bos>", " 1"], "prompt": "<bos> 1", "node_threshold": 0.8,
    },
    "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "",
                "sg_pos": ""},
    "nodes": [
        theirs("20_4154_1", "20", 1, CLT, activation=34.0, influence=0.75),
        theirs("0_35_1", "0", 1, CLT, activation=2.5, influence=0.5, feature=665),
        theirs("16_-1_1", "16", 1, ERROR, influence=1.0),
        theirs("E_2_0", "E", 0, "embedding", influence=0.25),
        theirs("E_235274_1", "E", 1, "embedding", influence=0.875),
        theirs("27_235310_1", "27", 1, "logit", token_prob=0.5,
               clerp='Output " "4"" (p=0.500)'),
    ],
    "links": [
        {"source": "E_2_0", "target": "0_35_1", "weight": 10.75},
        {"source": "0_35_1", "target": "20_4154_1", "weight": -3},
        {"source": "20_4154_1", "target": "27_235310_1", "weight": 1.5},
    ],
}  # fmt: skip


def written(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(document))
    return path


def exported(graph: AttributionGraph, tmp_path: Path, **options: Any) -> dict[str, Any]:
    path = to_neuronpedia(graph, tmp_path / "graph.json", slug="toy", **options)
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_a_graph_of_circuit_tracer_is_read(tmp_path: Path) -> None:
    graph = from_neuronpedia(written(tmp_path, DOCUMENT))
    names = ["input@0", "input@1", "m0.f35@1", "m16.error@1", "m20.f4154@1", "logits.t235310@1"]
    assert [node.name for node in graph.nodes] == names
    assert (graph.tokens, graph.text) == ((2, 235274), ("<bos>", " 1"))
    assert graph.activation.tolist() == [1.0, 1.0, 2.5, 1.0, 34.0, 0.5]
    # What each adds to the cumulative share of the stronger ones.
    assert graph.influence.tolist() == [0.25, 0.125, 0.25, 0.125, 0.25, 0.0]
    assert graph["m0.f35@1->m20.f4154@1"] == -3.0
    assert graph.token_text(graph.nodes[-1]) == ' "4"'
    assert (graph.n_active, graph.provenance.model) == (6, "gemma-2-2b")
    assert math.isnan(graph.replacement)
    assert math.isnan(graph.completeness)


def test_errors_of_older_files_and_features_of_other_numbers_are_read(tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["nodes"][2]["node_id"] = "0_16_1"  # until circuit-tracer mended it
    document["nodes"][0]["layer"] = 20
    del document["metadata"]["schema_version"]
    assert from_neuronpedia(written(tmp_path, document)).nodes[3].name == "m16.error@1"


@REUSED
@given(graph=traced_graphs())
def test_export_has_an_inverse(tmp_path: Path, graph: AttributionGraph) -> None:
    path = to_neuronpedia(graph, tmp_path / "graph.json", slug="any")
    assert_same_graph(from_neuronpedia(path), graph)


def test_each_kind_of_node_has_the_viewers_id_number_and_form(tmp_path: Path) -> None:
    nodes = {one["node_id"]: one for one in exported(traced(), tmp_path)["nodes"]}
    assert list(nodes) == [
        "E_3_0", "E_8_1", "E_4_2", "0_3_0", "0_-1_1", "0_7_2", "1_17_2", "1_-1_2", "3_5_2", "3_9_2",
    ]  # fmt: skip
    feature = nodes["1_17_2"]
    del feature["influence"]
    assert feature == {
        "node_id": "1_17_2", "feature": 18 * 19 // 2 + 17, "layer": "1", "ctx_idx": 2,
        "feature_type": CLT, "token_prob": 0.0, "is_target_logit": False, "run_idx": 0,
        "reverse_ctx_idx": 0, "jsNodeId": "1_17-0", "clerp": "", "activation": 3.0,
        "own_influence": 1.0,
    }  # fmt: skip
    logit = nodes["3_5_2"]
    assert (logit["clerp"], logit["token_prob"]) == ('Output " gave" (p=0.750)', 0.75)
    assert (logit["is_target_logit"], nodes["3_9_2"]["is_target_logit"]) == (True, False)
    assert (logit["feature"], logit["jsNodeId"], logit["influence"]) == (5, "L_5-2", None)
    assert (nodes["0_-1_1"]["feature"], nodes["0_-1_1"]["jsNodeId"]) == (-1, "0_-1-1")
    assert (nodes["E_8_1"]["feature"], nodes["E_8_1"]["layer"]) == (1, "E")
    assert nodes["E_8_1"]["activation"] is None


def test_influence_is_the_share_of_a_node_and_the_stronger_ones(tmp_path: Path) -> None:
    said = {one["node_id"]: one["influence"] for one in exported(traced(), tmp_path)["nodes"]}
    # 1 + 0.75 + 0.5 + 0.25 + 0.25 + 0.125 + 0.125 + 0 = 3
    assert said["1_17_2"] == pytest.approx(1 / 3)
    assert said["0_3_0"] == pytest.approx(1.75 / 3)
    assert said["E_3_0"] == pytest.approx(2.25 / 3)
    assert said["E_8_1"] == 1.0
    # Without what is our own, the shares give each node's influence back.
    distinct = torch.tensor([3, 1, 5, 2, 7, 4, 8, 6, 0, 0.0])
    document = exported(replace(traced(), influence=distinct), tmp_path)
    for one in document["nodes"]:
        del one["own_influence"]
    back = from_neuronpedia(written(tmp_path, document)).influence * 36
    assert back.tolist() == pytest.approx(distinct.tolist(), abs=1e-5)


def test_links_labels_groups_and_metadata(tmp_path: Path) -> None:
    document = exported(
        traced(),
        tmp_path,
        scan="gpt2",
        labels={"m1.f17": "a name is due", "logits.t9@2": " spoke"},
        groups={"names": ["m0.f3@0", "m0.f7"], "none": ["m0.f99"]},
        n_layers=12,
    )
    links = document["links"]
    assert links[1] == {"source": "0_3_0", "target": "1_17_2", "weight": 1.5}
    assert len(links) == 9
    clerps = {one["node_id"]: one["clerp"] for one in document["nodes"]}
    assert clerps["1_17_2"] == "a name is due"
    assert clerps["13_9_2"] == 'Output " spoke" (p=0.125)'
    assert document["qParams"]["supernodes"] == [["names", "0_3_0", "0_7_2"]]
    assert document["qParams"]["pinnedIds"] == ["0_3_0", "0_7_2"]
    metadata = document["metadata"]
    assert (metadata["slug"], metadata["scan"], metadata["schema_version"]) == ("toy", "gpt2", 1)
    assert metadata["prompt_tokens"] == ["Mary", " and", " John"]
    assert metadata["prompt"] == "Mary and John"
    assert metadata["pruning_settings"] == {"node_threshold": 0.8, "edge_threshold": 0.98}


# What Neuronpedia's graph-schema.json 1.0.0 requires, and of which type.
NUMBER = (int, float)
REQUIRED: dict[str, dict[str, Any]] = {
    "metadata": {"slug": str, "scan": str, "prompt_tokens": list, "prompt": str},
    "nodes": {"node_id": str, "feature": (int, type(None)), "layer": (str, int), "ctx_idx": int,
              "feature_type": str, "jsNodeId": str, "clerp": str},
    "links": {"source": str, "target": str, "weight": NUMBER},
}  # fmt: skip


@REUSED
@given(graph=traced_graphs())
def test_all_that_their_schema_requires_is_there(tmp_path: Path, graph: AttributionGraph) -> None:
    document = exported(graph, tmp_path)
    assert document.keys() == {"metadata", "qParams", "nodes", "links"}
    for part, types in REQUIRED.items():
        for one in document[part] if part != "metadata" else [document[part]]:
            for name, kind in types.items():
                assert isinstance(one[name], kind), (part, name)
    for one in document["nodes"]:
        assert one["influence"] is None or 0 <= one["influence"] <= 1
        assert one["activation"] is None or isinstance(one["activation"], NUMBER)
        if one["feature_type"] == "logit":
            assert float(one["clerp"].split("(p=")[1].split(")")[0]) >= 0  # as the viewer reads it
    ids = [one["node_id"] for one in document["nodes"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("links"), "KeyError: 'links'"),
        (lambda d: d["metadata"].pop("scan"), "KeyError: 'scan'"),
        (lambda d: d.update(nodes=3), "is no graph of Neuronpedia"),
        (lambda d: d["nodes"][0].pop("node_id"), "KeyError: 'node_id'"),
        (lambda d: d["nodes"][0].update(feature_type="lorsa"), "'20_4154_1' is of type 'lorsa'"),
        (lambda d: d["nodes"][0].update(ctx_idx=2), "stands at 2, and there are 2 tokens"),
        (lambda d: d["nodes"][0].update(ctx_idx="1"), "stands at '1'"),
        (lambda d: d["nodes"][0].update(layer="E"), "'20_4154_1' has 'E' where its layer"),
        (lambda d: d["nodes"][0].update(node_id="20_x_1"), "has 'x' where its layer or index"),
        (lambda d: d["nodes"][0].update(activation="big"), "'20_4154_1' has 'big' where a number"),
        (lambda d: d["nodes"][1].update(node_id="20_4154_1"), "'20_4154_1' stands there twice"),
        (lambda d: d["links"][0].update(source="E_9_9"), "'E_9_9', which is no node of the file"),
        (lambda d: d["links"][0].update(weight=None), "has None where a number should be"),
        (lambda d: d["links"][0].update(weight=float("nan")), "NaN is not JSON"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_foreign_is_named(tmp_path: Path, change: Any, message: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    with pytest.raises(FileFormatError, match=message) as caught:
        from_neuronpedia(written(tmp_path, document))
    assert "graph.json" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"{", b"[" * 100_000, b"\x80\x04pickle"])
def test_what_is_no_graph_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "graph.json").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"graph\.json"):
        from_neuronpedia(tmp_path / "graph.json")
    with pytest.raises(FileFormatError, match=r"cannot read '.*none\.json'"):
        from_neuronpedia(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["post0.f3@1", "a0.f3@1", "m0.skip@1", "m0.f3", "logits@2"])
def test_nodes_that_their_files_cannot_name_are_refused(tmp_path: Path, name: str) -> None:
    nodes: list[Node] = list(traced().nodes)
    nodes[3] = parse_node(name)
    with pytest.raises(GraphError, match=f"'{name}' cannot be written for Neuronpedia"):
        to_neuronpedia(replace(traced(), nodes=tuple(nodes)), tmp_path / "g.json", slug="x")
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_json_lacks_and_places_that_are_not_there_are_refused(tmp_path: Path) -> None:
    bad = replace(traced(), weight=torch.full_like(traced().weight, math.inf))
    with pytest.raises(GraphError, match="whose weight is not finite"):
        to_neuronpedia(bad, tmp_path / "g.json", slug="x")
    with pytest.raises(OutputError, match="does not exist"):
        to_neuronpedia(traced(), tmp_path / "nowhere" / "g.json", slug="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ["m0.f3@0"], "b": ["m0.f3"]}, "'m0.f3@0' is in two groups: 'a' and 'b'"),
        ({"a": ["f3"]}, "'f3' is not a node's name"),
        ({"input@0": ["m0.f3@0"]}, "'input@0' has the name of a node"),
    ],
)
def test_groups_that_make_no_sense_are_refused(
    tmp_path: Path, groups: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        to_neuronpedia(traced(), tmp_path / "g.json", slug="x", groups=groups)
