"""Bad input with dictionaries: each is refused with the right error, which says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import DictionaryError, GraphError, OptionError
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Site
from sae_circuits.models.dictionaries.placed import Placed
from shapes import HOOKED, random_task
from small_dictionaries import dictionary


@pytest.fixture(scope="module")
def model():
    return HOOKED["gpt2"]()


@pytest.fixture(scope="module")
def task(model):
    return random_task(model)


@pytest.fixture(scope="module")
def graph(model):
    saes = [dictionary(model, "z", 0), dictionary(model, "mlp_out", 1)]
    return sc.TensorGraph.from_model(model, saes=saes)


def said(error, *parts):
    for part in parts:
        assert part in str(error.value), str(error.value)


def refused(kind, model, saes, *parts):
    with pytest.raises(kind) as error:
        sc.TensorGraph.from_model(model, saes=saes)
    said(error, *parts)


# -- dictionaries that do not fit ------------------------------------------------------------------


def test_a_dictionary_of_another_model(model):
    other = replace(dictionary(model, "z", 0), model="llama-3")
    refused(DictionaryError, model, [other], "'z.0'", "was trained on 'llama-3'", "model=None")
    bundled = sc.load_saes("demo", ["mlp_out.0"])
    refused(DictionaryError, model, bundled, "'mlp_out.0'", "was trained on")
    unnamed = [replace(bundled[0], model=None)]
    refused(DictionaryError, model, unnamed, "64 wide at mlp_out.0", "made for another model")
    far = replace(dictionary(model, "z", 0), reads=Site("z", 7), writes=(Site("z", 7),))
    refused(DictionaryError, model, [far], "has no layer 7", "0 to 1")


def test_what_is_no_list_of_dictionaries():
    """In a process of its own, where no annotations are checked."""
    code = """
import sae_circuits as sc
from small_saes import random_sae

held = random_sae("standard", "blocks.1.hook_mlp_out", 64, 5)
(given,) = sc.load_saes([held])
model = sc.load_model("demo")
for saes in ([held], given, "demo"):
    try:
        sc.TensorGraph.from_model(model, saes=saes)
    except sc.errors.GraphError as error:
        print(str(error).partition(":")[0])
print(sc.TensorGraph.from_model(model, saes=[given]).n_src)
"""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "StandardSAE is no dictionary",
        "Dictionary is no list of dictionaries",
        "str is no list of dictionaries",
        str(1 + 16 + 3 + 5 + 1),
    ]


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        (("z", 0, {}), ("z", 0, {"seed": 1}), "'a0'"),
        (("z", 0, {}), ("attn_out", 0, {}), "'a0'"),
        (("mlp_out", 1, {}), ("mlp_in", 1, {"writes": "mlp_out"}), "'m1'"),
        (("resid_post", 0, {}), ("resid_pre", 1, {}), "'pre1'"),  # one and the same stream
    ],
)
def test_two_dictionaries_at_one_place(model, first, second, place):
    saes = [dictionary(model, kind, layer, **options) for kind, layer, options in (first, second)]
    refused(GraphError, model, saes, "both split", place, "take one of them", repr(saes[0].name))


def test_a_place_that_the_graph_cannot_split(model):
    refused(GraphError, model, [dictionary(model, "mlp_in", 0)], "mlp_in.0, which is no writer")
    parallel = HOOKED["pythia"]()
    middle = dictionary(model, "resid_mid", 0)
    refused(GraphError, parallel, [replace(middle)], "no stream between its heads and its MLP")
    bare = HOOKED["attention-only"]()
    refused(DictionaryError, bare, [dictionary(model, "mlp_out", 0)], "has no MLPs")


def test_a_transcoder_of_two_layers(model):
    d = dictionary(model, "mlp_in", 0, writes="mlp_out")
    over = replace(d, writes=(Site("mlp_out", 0), Site("mlp_out", 1)), decoders=(d.W_dec,) * 2)
    refused(GraphError, model, [over], "writes to 2 layers", "sae_circuits.trace(...)")
    later = replace(d, writes=(Site("mlp_out", 1),))
    refused(GraphError, model, [later], "reads mlp_in.0 and writes mlp_out.1", "a transcoder reads")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_damaged_weights(model, bad):
    d = dictionary(model, "mlp_out", 0)
    W = d.W_enc.clone()
    W[0, 3] = bad
    with pytest.raises(DictionaryError) as error:
        replace(d, W_enc=W)
    said(error, "'mlp_out.0'", "W_enc holds NaN or infinity", "its file is damaged")


def test_a_dead_dictionary(model):
    d = dictionary(model, "mlp_out", 0)
    with pytest.raises(DictionaryError) as error:
        replace(d, decoders=(torch.zeros_like(d.W_dec),))
    said(error, "'mlp_out.0' is dead: every decoder row is 0")


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["a0.f7"], "'a0.f7' is not a feature of"),
        (["m0.f1"], "'m0.f1' is not a feature of"),  # that MLP is not split
        ({"a0": [1, 99]}, "'a0.f99' is not a feature of"),
        ({"m3": [1]}, "'m3.f1' is not a feature of"),
        (["a0.h1"], "'a0.h1' is not a feature or a neuron: name such, as in 'm3.f17'"),
        (["m1.error"], "'m1.error' is not a feature"),
        (["a0.f-1"], "'a0.f-1' is not a node's name"),
    ],
)
def test_features_that_a_graph_does_not_have(graph, features, message):
    with pytest.raises(GraphError) as error:
        graph.restrict(features)
    said(error, message)


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ("a0.f7->m0", "'a0.f7' does not write in"),
        ("a0.f7->m0", "it is split into features, such as 'a0.f0'"),
        ("a0.h1->m0", "'a0.h1' does not write in"),
        ("a0.h1->m0", "it is split into features, such as 'a0.f0'"),
        ("m1->logits", "such as 'm1.f0'"),
        ("a0.f1->m1.f2", "'m1.f2' does not read in"),  # it is read through the MLP
        ("m1.f2->m1", "m1 comes no later than m1.f2"),
    ],
)
def test_edges_that_a_graph_does_not_have(graph, edge, message):
    with pytest.raises(GraphError) as error:
        sc.Circuit.from_edges(graph, [edge])
    said(error, edge, message)


def test_edges_past_a_bottleneck(model):
    graph = sc.TensorGraph.from_model(model, saes=[dictionary(model, "resid_post", 0)])
    with pytest.raises(GraphError) as error:
        graph.edge_id("a0.h1->logits")
    said(error, "logits sees a0.h1 only through the features of the stream between them")


def test_a_circuit_of_nodes_that_do_not_write(graph):
    with pytest.raises(GraphError, match=r"'m1\.f9' does not write in"):
        sc.Circuit.from_nodes(graph, ["m1.f9"])


# -- circuits and tasks ----------------------------------------------------------------------------


def test_a_circuit_of_a_graph_without_an_error_node(model, task, graph):
    some = graph.subgraph([n for n in graph.src_nodes if n.kind != "error"] + ["logits"])
    for run in (sc.ablate, sc.evaluate):
        with pytest.raises(GraphError) as error:
            run(model, sc.Circuit.full(some), task)
        said(error, "is of a part of the model's graph", "from_model(model, saes=...)")
    part = sc.Circuit.from_edges(some, ["input->logits"]).on(graph)
    assert sc.ablate(model, part, task).isfinite().all()  # what the message says works


def test_a_report_without_error_nodes(model, task):
    report = sc.evaluate(model, sc.Circuit.full(sc.TensorGraph.from_model(model)), task)
    for name in ("error_share", "errors_removed", "faithfulness_errors_kept"):
        with pytest.raises(GraphError) as error:
            getattr(report, name)
        said(error, "has no error nodes: they come with saes=[...]")


def test_a_task_on_which_no_feature_is_active(model, task):
    quiet = dictionary(model, "mlp_out", 0)
    quiet = replace(quiet, b_enc=quiet.b_enc - 1e6)
    graph = sc.TensorGraph.from_model(model, saes=[quiet])
    with pytest.raises(DictionaryError) as error:
        sc.active_features(model, graph, task)
    said(error, "of 7 features none is active", repr(task.name), "a dictionary of another model")
    scores = sc.attribute(model, graph, task, method="eap")  # no error: all is in the error node
    silent = [v for n, v in scores.by_source().items() if n.kind == "feature"]
    assert silent == [0.0] * 7
    assert scores.by_source()[sc.Node("error", 0, site="m")] != 0
    nodes = sc.attribute_nodes(model, graph, task, method="eap")
    assert nodes.features(5) == []
    assert graph.restrict([]).n_src == graph.n_src - 7


def test_active_features_of_a_graph_without_any(model, task):
    with pytest.raises(DictionaryError) as error:
        sc.active_features(model, sc.TensorGraph.from_model(model), task)
    said(error, "has no features: give dictionaries", "saes=[...]")


def test_edge_methods_give_no_scores_of_nodes(model, task, graph):
    for method in ("exact", "random"):
        with pytest.raises(OptionError, match=f"method '{method}' scores edges only"):
            sc.attribute_nodes(model, graph, task, method=method)


# -- dtypes and devices ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 0.01)]
)
def test_a_dictionary_in_another_dtype(model, task, dtype, tolerance):
    saes = [dictionary(model, "z", 0), dictionary(model, "mlp_in", 1, writes="mlp_out")]
    rough = [d.to("cpu", dtype) for d in saes]
    for same in (rough, [d.to("cpu", torch.float64) for d in rough]):  # then to rounding only
        graphs = [sc.TensorGraph.from_model(model, saes=s) for s in (rough, same)]
        scores = [sc.attribute(model, g, task, method="eap").values for g in graphs]
        torch.testing.assert_close(*scores, rtol=1e-10, atol=1e-12)
    fine = sc.TensorGraph.from_model(model, saes=saes)
    scores.append(sc.attribute(model, fine, task, method="eap").values)
    assert float((scores[0] - scores[2]).abs().max()) < tolerance * float(scores[2].abs().max())
    circuit = sc.prune.top_n(sc.Scores(graphs[0], scores[0]), 30)
    assert sc.ablate(model, circuit, task).dtype == torch.float64


def test_a_dictionary_in_a_finer_dtype_than_the_model():
    model = HOOKED["gpt2"](dtype=torch.float32)
    task = random_task(model)
    found = []
    for dtype in (torch.float32, torch.float64):
        saes = [dictionary(model, "resid_post", 0).to("cpu", dtype)]
        graph = sc.TensorGraph.from_model(model, saes=saes)
        circuit = sc.prune.top_n(sc.attribute(model, graph, task, method="eap"), 20)
        found.append(sc.evaluate(model, circuit, task).examples["circuit"])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_a_dictionary_on_another_device(model, task, graph, monkeypatch):
    elsewhere = property(lambda _: torch.device("meta"))
    monkeypatch.setattr("sae_circuits.models.adapter.Adapter.device", elsewhere)
    with pytest.raises(DictionaryError) as error:
        Placed.all_of(Adapter.of(model), graph)
    said(error, "'z.0'", "is on cpu and the model on meta", "load_saes(..., device='meta')")


def test_a_dictionary_without_values(model):
    with pytest.raises(DictionaryError, match=r"'z\.0' holds no values, .* 'meta'"):
        dictionary(model, "z", 0).to("meta")
