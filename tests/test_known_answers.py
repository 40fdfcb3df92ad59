"""A model whose circuit is known: every method has to find it, and its measures are known too."""

from __future__ import annotations

import pytest

from sae_circuits import prune
from sae_circuits.attribution import attribute, methods
from sae_circuits.evaluation import against, curve, evaluate, minimality
from sae_circuits.graph import Circuit
from sae_circuits.testing import checks_for, truth
from sae_circuits.testing.conformance import finds_the_induction_circuit

METHODS = [
    name
    for name in sorted(set(methods()) - {"random", "edge-pruning", "ugs"})  # these: test_masks.py
    if finds_the_induction_circuit in checks_for(name)
]


@pytest.fixture(scope="module")
def known():
    made = truth("induction")
    return made.model, made.graph, made.task, made.circuit


def test_the_model_does_the_task_and_fails_on_the_corrupt_prompts(known):
    model, _, task, _ = known
    assert (model(task.clean)[:, -1].argmax(-1) == task.answer[:, 0]).all()
    clean, corrupt = (model(x)[:, -1].gather(1, task.answer) for x in (task.clean, task.corrupt))
    assert clean.min() > 0.8
    assert corrupt.max() < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_score_to_the_true_edges_and_to_no_other(known, method):
    model, graph, task, circuit = known
    scores = attribute(model, graph, task, method=method)
    sizes = scores.values.abs()
    assert sizes[~circuit.mask].max() < 1e-12
    assert sizes[circuit.mask].min() > 1e-3
    found = against(scores, circuit)
    assert (found.auroc, found.auprc, found.precision) == (1, 1, 1)
    assert prune.top_n(scores, 5) == circuit


def test_the_true_circuit_alone_is_the_model_and_all_but_it_the_corrupt_run(known):
    model, _, task, circuit = known
    report = evaluate(model, circuit, task)
    assert report.faithfulness == pytest.approx(1, abs=1e-10)
    assert report.completeness == pytest.approx(0, abs=1e-10)
    assert report.accuracy == 1
    assert report.circuit == pytest.approx(report.clean)
    assert prune.drop_dead_nodes(circuit) == circuit


def test_each_edge_of_the_true_circuit_is_needed(known):
    model, _, task, circuit = known
    found = minimality(model, circuit, task)
    assert found.faithfulness == pytest.approx(1, abs=1e-10)
    assert found.lost.min() > 0.2
    assert found.needed == circuit


def test_of_all_edges_only_the_true_ones_are_needed(known):
    model, graph, task, circuit = known
    found = minimality(model, Circuit.full(graph), task)
    assert found.needed == circuit
    others = ~circuit.mask[found.ids]
    assert found.lost[others].abs().max() < 1e-12
    assert found.lost_interval[others].abs().max() < 1e-12
    assert {name for name, _ in found.least(len(found))[-5:]} == {
        edge.name for edge in circuit.edges
    }


def test_denoising_the_true_circuit_restores_everything(known):
    model, _, task, circuit = known
    report = evaluate(model, circuit, task, direction="denoising")
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
    for name in ("cmd", "cpr"):
        assert found.interval(name) == pytest.approx((getattr(found, name),) * 2, abs=1e-9)


@pytest.mark.parametrize("name", ["induction", "induction-mlp", "induction-deep"])
def test_a_saturated_softmax_hides_edges_from_eap_and_not_from_eap_ig(name):
    known = truth(name, sharpness=30, eps=0.05)
    found = {
        method: against(known.scores(method, **more), known.circuit).auroc
        for method, more in {"eap": {}, "eap-ig": {"steps": 20}}.items()
    }
    assert found["eap-ig"] > 0.99
    assert found["eap"] < (0.9 if name == "induction-deep" else 0.8)
    if name == "induction":  # about 0.67: the two edges into the pattern come last
        assert found["eap"] == pytest.approx(0.67, abs=0.01)
