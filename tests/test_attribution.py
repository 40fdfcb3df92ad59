"""Scores against the slow independent reference, on every shape."""

from __future__ import annotations

import pytest
import torch

from reference_attribution import reference_scores
from sae_circuits.attribution import attribute
from sae_circuits.graph import TensorGraph
from sae_circuits.metrics import logit_diff
from shapes import HOOKED, HOOKED_CONFIGS, TWINS, random_task

METHODS = {
    "eap": {},
    "clean-corrupted": {},
    "eap-ig": {"steps": 3, "rule": "midpoint"},
    "eap-ig-activations": {"steps": 2, "rule": "midpoint"},
    "exact": {},
}
GROUPED = [name for name, cfg in HOOKED_CONFIGS.items() if "n_key_value_heads" in cfg]


def problem(shape, *, split_kv=False, **task):
    model = HOOKED[shape]()
    return model, TensorGraph.from_model(model, split_kv=split_kv), random_task(model, **task)


@pytest.mark.parametrize("shape", HOOKED)
@pytest.mark.parametrize("method", METHODS)
def test_scores_equal_the_reference(shape, method):
    model, graph, task = problem(shape)
    options = METHODS[method]
    ours = attribute(model, graph, task, method=method, **options)
    slow = reference_scores(model, graph, task, logit_diff, method, **options)
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shape", GROUPED)
@pytest.mark.parametrize("method", METHODS)
def test_split_keys_and_values_equal_the_reference(shape, method):
    model, graph, task = problem(shape, split_kv=True)
    options = METHODS[method]
    ours = attribute(model, graph, task, method=method, **options)
    slow = reference_scores(model, graph, task, logit_diff, method, **options)
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("intervention", ["zero", "mean", "mean-positional"])
@pytest.mark.parametrize("method", ["eap", "eap-ig-activations", "exact"])
@pytest.mark.parametrize("shape", ["gpt2", "pythia", "gemma2"])
def test_interventions_equal_the_reference(shape, method, intervention):
    model, graph, task = problem(shape, lengths=[6, 4, 5])
    options = METHODS[method]
    ours = attribute(model, graph, task, method=method, intervention=intervention, **options)
    slow = reference_scores(
        model, graph, task, logit_diff, method, intervention=intervention, **options
    )
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shape", TWINS)
@pytest.mark.parametrize("method", ["eap", "eap-ig", "exact"])
def test_both_kinds_of_model_agree(shape, method):
    hooked, bridge = TWINS[shape]()
    task = random_task(hooked)
    one = attribute(hooked, TensorGraph.from_model(hooked), task, method=method)
    other = attribute(bridge, TensorGraph.from_model(bridge), task, method=method)
    torch.testing.assert_close(one.values, other.values, rtol=1e-3, atol=3e-5)


def test_scores_do_not_depend_on_how_tokens_and_points_are_grouped(monkeypatch):
    model, graph, task = problem("llama", lengths=[6, 4, 5])
    whole = attribute(model, graph, task, method="eap-ig", steps=5)
    monkeypatch.setattr("sae_circuits.attribution.method.TOGETHER", 2)
    monkeypatch.setattr("sae_circuits.costs.products.TOGETHER", 1)
    monkeypatch.setattr("sae_circuits.costs.memory.SPACE", {"other": 1})
    apart = attribute(model, graph, task, method="eap-ig", steps=5)
    torch.testing.assert_close(whole.values, apart.values, rtol=1e-9, atol=1e-12)


def test_a_subgraph_has_the_scores_of_the_whole_and_one_without_edges_has_none():
    model, graph, task = problem("gpt2")
    whole = attribute(model, graph, task, method="eap")
    part = graph.subgraph(["a0.h1", "m0", "logits"])
    scores = attribute(model, part, task, method="eap")
    assert len(scores.values) == part.n_edges > 2
    for edge, value in zip(part.edges, scores.values.tolist(), strict=True):
        assert value == pytest.approx(float(whole[edge]), rel=1e-9)
    assert attribute(model, graph.subgraph(["input"]), task, method="eap").values.shape == (0,)
