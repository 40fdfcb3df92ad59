"""What is easily got wrong at first: arguments exchanged, others' names, lists, texts."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import (
    CircuitsError,
    FileFormatError,
    ModelError,
    OptionError,
    TaskError,
    UnknownName,
    UnsupportedModel,
)
from sae_circuits.graph import parse_edge, parse_node
from sae_circuits.models.dictionaries import load_saes


@pytest.fixture(scope="module")
def model():
    return sc.load_model("demo")


@pytest.fixture(scope="module")
def task(model):
    return sc.tasks.ioi(model, n=4, seed=0)


@pytest.fixture(scope="module")
def graph(model):
    return sc.TensorGraph.from_model(model)


@pytest.fixture(scope="module")
def scores(graph):
    return sc.Scores(graph, torch.arange(float(graph.n_edges)))


@pytest.fixture(scope="module")
def circuit(scores):
    return sc.prune.top_n(scores, 20)


def refused(kind: type[CircuitsError], *parts: str):
    return pytest.raises(kind, match=".*".join(parts))


# -- arguments in each other's place ---------------------------------------------------------------

# Calls with what annotations do not allow, which the checks of types in tests would refuse before
# the library does: they are made in a process without those.
HELD = """
import json, sys, torch
import sae_circuits as sc
model = sc.load_model("demo")
task = sc.tasks.ioi(model, n=4, seed=0)
graph = sc.TensorGraph.from_model(model)
scores = sc.Scores(graph, torch.arange(float(graph.n_edges)))
circuit = sc.prune.top_n(scores, 20)
(sae,) = sc.load_saes("demo", "mlp_out.0")
two = sc.load_saes("demo", ["mlp_out.0", "mlp_out.1"])
said = {}
for call in json.loads(sys.argv[1]):
    try:
        said[call] = "no error: " + repr(eval(call))
    except Exception as error:
        said[call] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""

GRAPH = "ArgumentError: graph is a Task: give a TensorGraph, made by TensorGraph.from_model(model)"
CIRCUIT = ": give a Circuit, such as prune.top_n(scores, 200) makes of scores"
SCORES = "ArgumentError: scores is a Circuit: give Scores, made by attribute(model, graph, task)"
TAKES = "a metric is called with (logits, targets), logits [batch, vocab] and the answers"
SAID = {
    "sc.attribute(model, task, graph)": GRAPH,
    "sc.attribute_nodes(model, task, graph)": GRAPH,
    "sc.active_features(model, task, graph)": GRAPH,
    "sc.attribute(model, graph, graph)": "ArgumentError: task is a TensorGraph: give a Task, such",
    "sc.attribute(model, graph, None)": "ArgumentError: task is None: give a Task, such as",
    "sc.evaluate(model, task, circuit)": f"ArgumentError: circuit is a Task{CIRCUIT}",
    "sc.evaluate(model, scores, task)": f"ArgumentError: circuit is a Scores{CIRCUIT}",
    "sc.minimality(model, graph, task)": f"ArgumentError: circuit is a TensorGraph{CIRCUIT}",
    "sc.ablate(model, task, circuit)": "ArgumentError: task is a Circuit: give a Task",
    "sc.curve(model, circuit, task)": SCORES,
    "sc.prune.top_n(circuit, 5)": SCORES,
    "sc.prune.top_nodes(circuit, 5)": SCORES,
    "sc.prune.threshold(circuit, 0.5)": SCORES,
    "sc.overlap(scores, scores)": f"ArgumentError: first is a Scores{CIRCUIT}",
    "circuit | scores": "ArgumentError: the other circuit is a Scores: give a Circuit",
    "sc.Circuit.from_edges(model, ['input->m0'])": "ArgumentError: graph is a TransformerBridge",
    "sc.Circuit.from_edges(graph, 'input->m0')": "ArgumentError: edges is one edge, 'input->m0'",
    "sc.FeatureDictionary.build(model, sae, ['a text'])": "ArgumentError: corpus is a list: give a",
    "sc.connections(model, 5, [sae], ['Mary'])": "ArgumentError: target is 5: give a feature",
    "sc.connections(model, 'm1.f5', two, 5)": "ArgumentError: prompts is 5: give a Task, token",
    "sc.attribute(model, graph, task, metric=lambda logits: logits)": f"takes (logits): {TAKES}",
    "sc.evaluate(model, circuit, task, metric=lambda: 0)": f"takes (): {TAKES}",
    "sc.attribute(model, graph, task, metric=None)": "MetricError: metric is None: give one of 'lo",
    "sc.Task.from_strings(model, 'Mary', 'John', answer='x')": "TaskError: clean is 'Mary': give a",
    "sc.Task.from_strings(model, ['Mary'], ['John'], answer=[None])": "TaskError: answer of pair 0",
    "sc.Task.from_strings(model, [None], ['John'], answer=['x'])": "TaskError: clean of pair 0 is",
    "sc.prune.top_n(scores, 0.1)": "GraphError: 0.1 edges asked for: give a whole number",
    "sc.prune.top_n(scores, '47')": "GraphError: '47' edges asked for: give a whole number",
    "sc.prune.threshold(scores, None)": "GraphError: a threshold of None: give a number",
    "sc.attribute(model, graph, task, batch_size=2.5)": "OptionError: batch_size=2.5: give a whole",
    "scores[0]": "ArgumentError: edge is 0: give an Edge or its name",
    "scores['input', 'logits']": "ArgumentError: edge is a tuple: give an Edge or its name",
    "sc.Node('a0.h1')": "GraphError: 'a0.h1' is no kind of node",
}


@pytest.fixture(scope="module")
def messages() -> dict[str, str]:
    """What is said of each call."""
    done = subprocess.run(
        [sys.executable, "-c", HELD, json.dumps(list(SAID))],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("call", SAID)
def test_what_is_wanted_is_said(call, messages):
    assert SAID[call] in messages[call]


@pytest.mark.parametrize("verb", ["attribute", "evaluate", "from_model"])
def test_a_models_name_where_the_model_is_wanted(verb, graph, task, circuit):
    with refused(UnsupportedModel, r"'demo' is a name, no model", r"load_model\('demo'\)"):
        {
            "attribute": lambda: sc.attribute("demo", graph, task),
            "evaluate": lambda: sc.evaluate("demo", circuit, task),
            "from_model": lambda: sc.TensorGraph.from_model("demo"),
        }[verb]()
    with refused(TaskError, r"'demo' is a name, no model", r"load_model\('demo'\)"):
        sc.tasks.ioi("demo")


def test_no_model_at_all(graph, task):
    with refused(UnsupportedModel, "model is None: the model comes first"):
        sc.attribute(None, graph, task)
    with refused(UnsupportedModel, "Linear has no TransformerLens configuration", "load_model"):
        sc.TensorGraph.from_model(torch.nn.Linear(2, 2))
    with refused(ModelError, "model is None: give a name"):
        sc.load_model(None)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("EAP", "eap"),
        ("EAP-IG-inputs", "eap-ig"),
        ("EAP-IG-activations", "eap-ig-activations"),
        ("eap_ig", "eap-ig"),
        ("information-flow-routes", "information-flow"),
        ("ACDC", "acdc"),
    ],
)
def test_other_libraries_names_of_methods_are_suggested(said, meant, model, graph, task):
    with refused(UnknownName, f"unknown method '{said}': did you mean '{meant}'\\?"):
        sc.attribute(model, graph, task, method=said)


def test_names_that_are_suggested_exist():
    from sae_circuits.ablation import interventions
    from sae_circuits.attribution.methods import ELSEWHERE, METHODS

    assert set(ELSEWHERE.values()) <= set(METHODS)
    assert not set(ELSEWHERE) & set(METHODS)
    assert set(interventions.ELSEWHERE.values()) <= set(interventions.INTERVENTIONS)


def test_names_of_metrics_interventions_and_kinds_are_suggested(model, graph, task):
    with refused(UnknownName, "did you mean 'kl'"):
        sc.metrics.get("KL_divergence")
    with refused(UnknownName, "did you mean 'mean-positional'"):
        sc.attribute(model, graph, task, method="eap", intervention="mean_positional")
    with refused(UnknownName, "did you mean 'corrupt'"):
        sc.attribute(model, graph, task, intervention="patching")
    with refused(UnknownName, "did you mean 'hooked'"):
        sc.load_model("demo", kind="HookedTransformer")


@pytest.mark.parametrize(
    ("module", "said", "meant"),
    [
        (sc, "Graph", "TensorGraph"),
        (sc, "load_sae", "load_saes"),
        (sc.prune, "topn", "top_n"),
        (sc.tasks, "IOI", "ioi"),
        (sc.metrics, "logitdiff", "logit_diff"),
        (sc.viz, "heatmap", "heat_map"),
    ],
)
def test_modules_suggest_their_names(module, said, meant):
    with pytest.raises(AttributeError, match=rf"no attribute '{said}'. Did you mean.*'{meant}'"):
        getattr(module, said)


def test_a_module_still_says_what_it_has_not():
    assert not hasattr(sc, "__wrapped__")
    with pytest.raises(ImportError, match="cannot import name 'Grph'"):
        from sae_circuits import Grph  # noqa: F401


def test_a_metric_may_take_any_arguments():
    any_arguments = sc.metrics.get(lambda *parts: parts[0][:, 0])
    assert any_arguments(torch.ones(2, 3), None).tolist() == [1, 1]


# -- lists and texts -------------------------------------------------------------------------------


def test_tokens_may_be_lists_or_arrays():
    wanted = sc.Task.from_tokens(
        torch.tensor([[1, 5, 6], [1, 8, 6]]),
        torch.tensor([[1, 7, 6], [1, 9, 6]]),
        answer=torch.tensor([5, 8]),
        wrong=torch.tensor([7, 9]),
        mask=torch.tensor([[True, True, True], [True, True, False]]),
        position=torch.tensor([1, 1]),
    )
    for kind in (list, lambda x: np.array(x, dtype=np.int32 if x != MASK else bool)):
        made = sc.Task.from_tokens(
            kind([[1, 5, 6], [1, 8, 6]]),
            kind([[1, 7, 6], [1, 9, 6]]),
            answer=kind([5, 8]),
            wrong=kind([7, 9]),
            mask=kind(MASK),
            position=kind([1, 1]),
        )
        assert made.fingerprint == wanted.fingerprint


MASK = [[True, True, True], [True, True, False]]


def test_tokens_that_are_none():
    with refused(TaskError, "clean makes no tensor", "equal length, padded"):
        sc.Task.from_tokens([[1, 5], [1]], [[1, 7], [1]], answer=[5, 5])
    with refused(TaskError, "clean holds text, 'Mary'", "from_strings"):
        sc.Task.from_tokens(["Mary"], ["John"], answer=[5])
    with refused(TaskError, "answer is torch.float32", "give torch.int64"):
        sc.Task.from_tokens([[1, 5]], [[1, 7]], answer=[5.0])


def test_one_dictionary_by_its_name():
    assert [found.name for found in load_saes("demo", "mlp_out.0")] == ["mlp_out.0"]


@pytest.mark.parametrize(
    ("first", "separator"), [("clean;corrupt;answer", ";"), ("clean\tcorrupt\tanswer", "\\\\t")]
)
def test_a_table_with_another_separator(first, separator, model, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(f"{first}\nMary;John;Mary\n")
    with refused(FileFormatError, "has one column", f"by '{separator}'"):
        sc.Task.from_file(model, path)


# -- numbers, devices ------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_none(batch_size, model, graph, task, circuit):
    for run in (
        lambda: sc.attribute(model, graph, task, method="eap", batch_size=batch_size),
        lambda: sc.evaluate(model, circuit, task, batch_size=batch_size),
    ):
        with refused(OptionError, f"batch_size={batch_size}: give a whole number"):
            run()


def test_devices_and_dtypes_by_name():
    with refused(OptionError, "cannot use the device 'gpu'", "'cuda'"):
        sc.load_model("demo", device="gpu")
    with refused(OptionError, "cannot use the device 'gpu'"):
        sc.load_saes("demo", "mlp_out.0", device="gpu")
    with refused(UnknownName, "unknown dtype 'half': did you mean 'float16'"):
        sc.load_model("demo", dtype="half")
    assert sc.load_model("demo", dtype="float64").cfg.dtype == torch.float64
    assert sc.load_saes("demo", "mlp_out.0", dtype="float64")[0].W_dec.dtype == torch.float64


# -- what is shown ---------------------------------------------------------------------------------


def test_nodes_and_edges_show_their_names():
    assert repr(parse_edge("a0.h1->a1.h2<k>")) == "Edge('a0.h1->a1.h2<k>')"
    assert repr((parse_node("m3.f17@4"),)) == "(Node('m3.f17@4'),)"
