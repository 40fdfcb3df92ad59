"""Masks and constants that are learned: known circuits, seeds, batches, slopes and bad input."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from sae_circuits.ablation import ablate, run_circuits
from sae_circuits.ablation.constants import _Batch
from sae_circuits.ablation.interventions import mean_writes, zero_writes
from sae_circuits.attribution.methods.edge_pruning import hard_concrete, kept
from sae_circuits.attribution.methods.ugs import uniform_window
from sae_circuits.errors import FileFormatError, GraphError, NumericalError, OptionError
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.metrics import kl
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.small import random_model
from sae_circuits.testing import truth
from shapes import HOOKED, random_task
from small_dictionaries import dictionary

LEARNED = {
    "edge-pruning": {"target": 0.95, "steps": 150, "lr": 0.2},
    "ugs": {"steps": 150, "lr": 0.2},
}
FEW = {"edge-pruning": {"steps": 6}, "ugs": {"steps": 6, "samples": 2}}


@pytest.fixture(scope="module")
def known():
    found = truth("induction")
    return found.model, found.circuit.graph, found.task, found.circuit


@pytest.fixture
def small():
    model = HOOKED["gpt2"](n_heads=2)
    return (
        model,
        TensorGraph.from_model(model),
        random_task(model, n=4, lengths=(5, 4, 5, 5), pos=5),
    )


# -- what masks are drawn from ---------------------------------------------------------------------


@pytest.mark.parametrize("odds", [-2.0, 0.5, 1.5])
def test_how_often_masks_are_0_and_what_their_mean_is(odds):
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    at = torch.full_like(u, odds)
    assert float((hard_concrete(at, u) > 0).double().mean()) == pytest.approx(
        float(kept(at)[0]), abs=1e-4
    )
    t = torch.tensor(odds).sigmoid().item()
    masks = uniform_window(at, u)
    between = (masks > 0) & (masks < 1)
    assert float(masks.mean()) == pytest.approx(t, abs=1e-4)
    assert float(between.double().mean()) == pytest.approx(t * (1 - t), abs=1e-4)
    assert float(masks[between].mean()) == pytest.approx(0.5, abs=1e-3)


def test_the_slope_of_uniform_gradient_sampling_is_that_of_the_mean_loss():
    """E loss = t loss(1) + (1 - t) loss(0) for masks of 0 and 1, whose slope in a is t (1 - t)."""
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    odds = torch.full_like(u, 0.7, requires_grad=True)
    masks = uniform_window(odds, u)
    (slope,) = torch.autograd.grad((masks**3 - 2 * masks).sum() / len(u), odds)
    t = torch.tensor(0.7, dtype=torch.float64).sigmoid()
    assert float(slope.sum()) == pytest.approx(float(t * (1 - t) * -1), abs=1e-5)


# -- what they find --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LEARNED)
def test_the_true_edges_come_first(known, method):
    model, graph, task, truth = known
    scores = sc.attribute(model, graph, task, method=method, **LEARNED[method])
    assert scores.values[truth.mask].min() > scores.values[~truth.mask].max()
    assert sc.prune.top_n(scores, len(truth)) == truth
    assert scores.values.min() >= 0
    assert scores.values.max() <= 1
    if method == "edge-pruning":
        assert 1 - float(scores.values.mean()) == pytest.approx(0.95, abs=0.05)  # the target


@pytest.mark.parametrize("method", FEW)
def test_the_same_under_a_seed_in_any_batches_and_order(small, method):
    model, graph, task = small

    def found(task=task, **more):
        return sc.attribute(model, graph, task, method=method, **FEW[method], **more).values

    first = found(batch_size=4)
    assert torch.equal(first, found(batch_size=4))
    torch.testing.assert_close(found(batch_size=1), first, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found(task[[2, 0, 3, 1]]), first, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(found(seed=1), first)


@pytest.mark.parametrize("method", FEW)
def test_a_warm_start_begins_in_the_order_of_its_scores(small, method):
    model, graph, task = small
    init = Scores(graph, torch.randn(graph.n_edges, generator=torch.Generator().manual_seed(0)))
    options = {**FEW[method], "steps": 1, "lr": 1e-9}
    found = sc.attribute(model, graph, task, method=method, init=init, **options)
    assert torch.equal(found.order(), init.order())


@pytest.mark.parametrize("loss", ["cross_entropy", "metric"])
@pytest.mark.parametrize("intervention", ["zero", "mean-positional"])
def test_other_losses_and_interventions(known, loss, intervention):
    model, graph, task, truth = known
    scores = sc.attribute(
        model, graph, task, method="ugs", loss=loss, intervention=intervention, steps=60, lr=0.2
    )
    true, others = scores.values[truth.mask].mean(), scores.values[~truth.mask].mean()
    assert true > 3 * others


# -- values for each writer ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["gpt2", "gemma2"])
def test_values_that_are_means_are_the_mean_intervention(shape):
    model = HOOKED[shape]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=3, lengths=(6, 5, 6))
    circuit = Circuit(graph, torch.rand(graph.n_edges) < 0.5)
    adapter = Adapter.of(model)
    means = mean_writes(adapter, task, 3, positional=False).values
    values = sc.NodeValues.of({name: x[0, 0] for name, x in means.items()})
    ours = ablate(model, circuit, task, intervention=values)
    expected = ablate(model, circuit, task, intervention="mean")
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    for method in ("eap", "exact"):
        found, same = (
            sc.attribute(model, graph, task, method=method, intervention=which).values
            for which in (values, "mean")
        )
        torch.testing.assert_close(found, same, rtol=1e-12, atol=1e-12)
    report = sc.evaluate(model, circuit, task, intervention=values, n_bootstrap=2)
    assert report.provenance.intervention == "values"
    assert report.circuit == pytest.approx(
        sc.evaluate(model, circuit, task, intervention="mean", n_bootstrap=2).circuit
    )


@pytest.mark.parametrize("shape", ["gpt2", "pythia", "gemma2"])
def test_slopes_of_constants_are_those_of_differences(shape):
    model = HOOKED[shape]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2)
    adapter = Adapter.of(model)
    circuit = Circuit(graph, torch.rand(graph.n_edges) < 0.5)
    (batch,) = _Batch.all_of(adapter, circuit, task, 2)
    zeros = zero_writes(adapter, task).values
    some = sc.NodeValues.of({name: 0.3 * torch.randn_like(x[0, 0]) for name, x in zeros.items()})

    def loss(vector):
        values = sc.NodeValues(some.places, some.shapes, vector).writes(batch.clean.writes)
        return batch.losses(adapter, values, kl).sum()

    with adapter.frozen():
        leaf = some.vector.clone().requires_grad_()
        (slopes,) = torch.autograd.grad(loss(leaf), leaf)
        for _ in range(3):
            along = torch.randn_like(leaf)
            with torch.no_grad():
                up, down = (loss(leaf + step * along) for step in (1e-6, -1e-6))
            assert float(slopes @ along) == pytest.approx(float(up - down) / 2e-6, rel=1e-5)


def test_constants_that_are_learned_lose_less_than_means_and_zeros(tmp_path):
    model = sc.load_model("demo")
    task = sc.tasks.ioi(model, n=8, seed=0)
    graph = TensorGraph.from_model(model)
    circuit = sc.prune.top_n(sc.attribute(model, graph, task, method="eap"), 60)
    values = sc.learn_constants(model, circuit, task, steps=12, lr=0.2)

    def loss(intervention):
        return float(run_circuits(model, [circuit], task, kl, intervention=intervention).mean())

    assert loss(values) < 0.8 * min(loss("mean"), loss("zero"))
    again = sc.learn_constants(model, circuit, task, steps=12, lr=0.2, batch_size=5)
    torch.testing.assert_close(again.vector, values.vector, rtol=1e-2, atol=1e-3)  # float32
    values.save(tmp_path / "values.safetensors")
    loaded = sc.load(tmp_path / "values.safetensors", sc.NodeValues)
    assert torch.equal(loaded.vector, values.vector)
    assert loaded.provenance == values.provenance
    assert loss(loaded) == loss(values)
    assert values.provenance.intervention == "optimal"
    assert sc.curve(
        model, circuit.scores, task, intervention=values, fractions=(0.1, 1)
    ).faithfulness[-1] == pytest.approx(1)


# -- bad input -------------------------------------------------------------------------------------

BAD = {
    ("edge-pruning", "target", 0.0): "target=0.0",
    ("edge-pruning", "target", 1.5): "target=1.5",
    ("edge-pruning", "target", float("nan")): "target=nan",
    ("edge-pruning", "warmup", 2.0): "warmup=2.0",
    ("edge-pruning", "lr_sparsity", -1.0): "lr_sparsity=-1.0",
    ("edge-pruning", "steps", 0): "steps=0",
    ("edge-pruning", "loss", "hinge"): "'hinge'",
    ("ugs", "penalty", -0.1): "penalty=-0.1",
    ("ugs", "samples", 0): "samples=0",
    ("ugs", "lr", float("nan")): "lr=nan",
    ("ugs", "init", "eap"): "init=",
}


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_options_that_are_none(small, bad):
    model, graph, task = small
    method, option, value = bad
    with pytest.raises(OptionError, match=BAD[bad]):
        sc.attribute(model, graph, task, method=method, **{option: value})


@pytest.mark.parametrize("method", FEW)
def test_warm_starts_that_do_not_fit(small, method):
    model, graph, task = small
    other = TensorGraph.from_model(random_model())
    with pytest.raises(GraphError, match="init belongs to another graph"):
        sc.attribute(
            model, graph, task, method=method, init=Scores(other, torch.ones(other.n_edges))
        )
    nan = Scores(graph, torch.full((graph.n_edges,), float("nan")))
    with pytest.raises(NumericalError, match="init"):
        sc.attribute(model, graph, task, method=method, init=nan)


@pytest.mark.parametrize("method", FEW)
def test_graphs_whose_edges_have_no_masks(small, method):
    model, graph, task = small
    with pytest.raises(GraphError, match="part of the model"):
        sc.attribute(model, graph.subgraph(["input", "a0.h0", "logits"]), task, method=method)
    split = TensorGraph.from_model(model, saes=[dictionary(model, "mlp_out", 0)])
    with pytest.raises(GraphError, match="heads and MLPs only"):
        sc.attribute(model, split, task, method=method)
    with pytest.raises(GraphError, match="heads and MLPs only"):
        sc.learn_constants(model, Circuit.full(split), task)


def test_what_diverges_says_what_to_do(small):
    model, graph, task = small
    with pytest.raises(NumericalError, match=r"'edge-pruning' is .*diverge; take smaller"):
        sc.attribute(model, graph, task, method="edge-pruning", lr=1e308, lr_sparsity=1e308)
    with pytest.raises(NumericalError, match=r"constants diverge; take an lr smaller than 1e\+308"):
        sc.learn_constants(model, Circuit.empty(graph), task, lr=1e308)


def test_values_that_do_not_fit(small, tmp_path):
    model, graph, task = small
    with pytest.raises(GraphError, match=r"'a0' is not given"):
        ablate(
            model,
            Circuit.full(graph),
            task,
            intervention=sc.NodeValues.of({"input": torch.zeros(20)}),
        )
    with pytest.raises(NumericalError, match="'m0' is not finite"):
        sc.NodeValues.of({"input": torch.zeros(2), "m0": torch.tensor([1.0, float("nan")])})
    with pytest.raises(GraphError, match="do not fill"):
        sc.NodeValues(("input",), ((3,),), torch.zeros(2))
    values = sc.NodeValues.of({"input": torch.zeros(2)})
    with pytest.raises(GraphError, match="no value for 'm9'"):
        values["m9"]
    with pytest.raises(OptionError, match="not defined for the intervention 'values'"):
        sc.attribute(model, graph, task, method="eap-ig", intervention=values)
    values.save(tmp_path / "values.safetensors")
    with pytest.raises(FileFormatError, match="node_values"):
        sc.load(tmp_path / "values.safetensors", Scores)
    for steps, lr in ((0, 0.1), (3, -1.0), (3, float("nan"))):
        with pytest.raises(OptionError, match="above 0"):
            sc.learn_constants(model, Circuit.full(graph), task, steps=steps, lr=lr)
