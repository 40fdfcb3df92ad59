"""Minimality against evaluations of the circuit without each edge."""

from __future__ import annotations

import pytest
import torch

from sae_circuits import metrics
from sae_circuits.attribution import attribute
from sae_circuits.errors import GraphError, MetricError
from sae_circuits.evaluation import evaluate, minimality
from sae_circuits.graph import Circuit, TensorGraph
from sae_circuits.prune import top_n
from sae_circuits.tasks import Task
from shapes import HOOKED, random_task


@pytest.fixture(scope="module")
def model():
    return HOOKED["gpt2"]()


@pytest.fixture(scope="module")
def task(model):
    return random_task(model, n=5, pos=6, lengths=[6, 4, 5, 6, 4])


@pytest.fixture(scope="module")
def circuit(model, task):
    return top_n(attribute(model, TensorGraph.from_model(model), task, method="eap"), 12)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"intervention": "zero", "batch_size": 2},
        {"intervention": "mean", "metric": "kl"},
        {"direction": "denoising", "metric": metrics.prob_diff},
    ],
    ids=["corrupt", "zero", "mean", "denoising"],
)
def test_each_value_is_that_of_two_evaluations(model, task, circuit, how):
    found = minimality(model, circuit, task, **how)
    report = evaluate(model, circuit, task, **how)
    assert found.faithfulness == pytest.approx(report.faithfulness)
    table = found.to_pandas()
    for row in table.itertuples():
        edge = f"{row.src}->{row.dest}"
        less = evaluate(model, circuit - Circuit.from_edges(circuit.graph, [edge]), task, **how)
        assert row.change == pytest.approx(less.circuit - report.circuit, abs=1e-12)
        assert row.lost == pytest.approx(report.faithfulness - less.faithfulness, abs=1e-12)
        assert found[edge] == row.lost
        assert row.lost_low <= row.lost <= row.lost_high or how
        assert row.change_low <= row.change <= row.change_high
    assert table.lost.is_monotonic_increasing
    assert len(table) == len(found) == 12
    assert set(found.ids.tolist()) == set(circuit.mask.nonzero()[:, 0].tolist())


def test_an_interval_is_the_bootstraps_of_the_two_runs(model, task, circuit):
    found = minimality(model, circuit, task, n_bootstrap=300, seed=4)
    edge, lost = found.least(1)[0]
    less = circuit - Circuit.from_edges(circuit.graph, [edge])
    whole, without = (
        evaluate(model, c, task, n_bootstrap=300, seed=4).examples for c in (circuit, less)
    )
    generator = torch.Generator().manual_seed(4)
    picks = torch.randint(5, (300, 5), generator=generator)
    drop = (whole["circuit"] - without["circuit"])[picks].mean(1)
    gap = (whole["clean"] - whole["corrupt"])[picks].mean(1)
    ends = torch.quantile(drop / gap, torch.tensor([0.025, 0.975], dtype=torch.float64))
    torch.testing.assert_close(found.lost_interval[0], ends)
    assert lost == found[edge]


def test_the_needed_edges_are_those_whose_interval_lies_above_zero(model, task, circuit):
    found = minimality(model, circuit, task[:2])
    above = found.lost_interval[:, 0] > 0
    assert found.needed <= circuit
    assert len(found.needed) == int(above.sum())
    name, lost = found.least(1)[0]
    needed = f"{len(found.needed)} of 12 edges needed for sure"
    assert repr(found).startswith(f"Minimality({needed}; least useful: {name} {lost:+.3f}")
    assert found.provenance.task_id == task[:2].fingerprint


def test_examples_and_batches_change_nothing(model, task, circuit):
    whole, batched = (minimality(model, circuit, task, batch_size=size) for size in (5, 2))
    turned = minimality(model, circuit, task[[4, 2, 0, 1, 3]])
    for other in (batched, turned):
        for edge in circuit.edges:
            assert other[edge] == pytest.approx(whole[edge], rel=1e-6, abs=1e-9)


def test_what_has_no_edges_or_no_gap_is_refused(model, task, circuit):
    with pytest.raises(GraphError, match="has no edges, so there are none to remove"):
        minimality(model, Circuit.empty(circuit.graph), task)
    same = Task.from_tokens(task.clean, task.clean, answer=task.answer, wrong=task.wrong)
    with pytest.raises(MetricError, match="no gap to recover"):
        minimality(model, circuit, same)
    found = minimality(model, circuit, task)
    outside = next(e for e in (~circuit).edges)
    with pytest.raises(GraphError, match="so it cannot be removed"):
        found[outside]
    with pytest.raises(GraphError, match="not of the report's circuit"):
        evaluate(model, ~circuit, task).with_minimality(found)
