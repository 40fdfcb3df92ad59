"""A model whose circuit is known: every method has to find it, and its measures are known too."""

from __future__ import annotations

import pytest
import torch

from induction_model import TRUE_EDGES, induction_model, induction_task
from sae_circuits import prune
from sae_circuits.attribution import attribute, methods
from sae_circuits.evaluation import curve, evaluate
from sae_circuits.graph import Circuit, TensorGraph

METHODS = sorted(set(methods()) - {"random", "information-flow"})


def auroc(values: torch.Tensor, positive: torch.Tensor) -> float:
    """How often a true edge outranks another one; ties count half."""
    wins = values[positive][:, None] - values[~positive]
    return float((wins > 0).double().mean() + (wins == 0).double().mean() / 2)


@pytest.fixture(scope="module")
def known():
    model = induction_model()
    graph = TensorGraph.from_model(model)
    return model, graph, induction_task(), Circuit.from_edges(graph, TRUE_EDGES)


def test_the_model_does_the_task_and_fails_on_the_corrupt_prompts(known):
    model, _, task, _ = known
    assert (model(task.clean)[:, -1].argmax(-1) == task.answer[:, 0]).all()
    clean, corrupt = (model(x)[:, -1].gather(1, task.answer) for x in (task.clean, task.corrupt))
    assert clean.min() > 0.8
    assert corrupt.max() < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_score_to_the_true_edges_and_to_no_other(known, method):
    model, graph, task, truth = known
    sizes = attribute(model, graph, task, method=method).values.abs()
    assert sizes[~truth.mask].max() < 1e-12
    assert sizes[truth.mask].min() > 1e-3
    assert auroc(sizes, truth.mask) == 1
    assert prune.top_n(attribute(model, graph, task, method=method), 5) == truth


def test_the_true_circuit_alone_is_the_model_and_all_but_it_the_corrupt_run(known):
    model, graph, task, truth = known
    report = evaluate(model, truth, task)
    assert report.faithfulness == pytest.approx(1, abs=1e-10)
    assert report.completeness == pytest.approx(0, abs=1e-10)
    assert report.accuracy == 1
    assert report.circuit == pytest.approx(report.clean)
    assert prune.drop_dead_nodes(truth) == truth
    for edge in truth.edges:  # and each of its edges is needed
        less = evaluate(model, truth - Circuit.from_edges(graph, [edge]), task)
        assert less.faithfulness < 0.8


def test_denoising_the_true_circuit_restores_everything(known):
    model, _, task, truth = known
    report = evaluate(model, truth, task, direction="denoising")
    assert report.faithfulness == pytest.approx(1, abs=1e-10)
    assert report.completeness == pytest.approx(0, abs=1e-10)


def test_the_curve_is_perfect_from_five_edges_on(known):
    model, graph, task, _ = known
    scores = attribute(model, graph, task, method="exact")
    found = curve(model, scores, task, fractions=(5.01 / graph.n_edges, 0.1, 0.5, 1))
    assert found.n_edges[0] == 5
    assert found.faithfulness == pytest.approx((1,) * 4, abs=1e-10)
    assert found.cmd == pytest.approx(0, abs=1e-10)
    assert found.random_cmd > 0.3


def test_a_saturated_softmax_hides_edges_from_eap_and_not_from_eap_ig():
    model, task = induction_model(sharpness=30, eps=0.05), induction_task()
    graph = TensorGraph.from_model(model)
    truth = Circuit.from_edges(graph, TRUE_EDGES).mask
    found = {
        name: auroc(attribute(model, graph, task, method=name, **more).values.abs(), truth)
        for name, more in {"eap": {}, "eap-ig": {"steps": 20}}.items()
    }
    assert found["eap-ig"] > 0.99
    assert found["eap"] < 0.8
