"""Circuits that are in at some spans only: against the slow reference, and the identities."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from reference_ablation import reference_span_logits
from sae_circuits.ablation.interventions import partners
from sae_circuits.errors import GraphError, TaskError, UnknownName
from sae_circuits.graph import SpanCircuit
from sae_circuits.prune import threshold, top_n
from sae_circuits.prune.keys import sizes
from shapes import HOOKED, random_task
from small_dictionaries import dictionary

LENGTHS = [6, 4, 5, 6]
SPANS = {"start": range(2), "end": -1}  # and the rest
LABELS = torch.tensor(
    [[0, 0, 2, 2, 2, 1], [0, 0, 2, 1, 0, 0], [0, 0, 2, 2, 1, 0], [0, 0, 2, 2, 2, 1]]
)
NAMES = ("start", "end", "rest")
MODELS = {shape: make for shape, make in HOOKED.items() if shape in ("gpt2", "llama", "gemma2")}


def problem(shape="gpt2", what="components", lengths=LENGTHS):
    model = HOOKED[shape](dtype=torch.float64)
    options = {}
    if what == "features":
        options = {
            "saes": [
                dictionary(model, "z", 0),
                dictionary(model, "resid_post", 0, gate="threshold"),
                dictionary(model, "mlp_in", 1, writes="mlp_out", gate="topk", skip=True),
            ]
        }
    if what == "neurons":
        options = {"neurons": ["a0", "m1"]}
    graph = sc.TensorGraph.from_model(model, **options)
    return model, graph, random_task(model, n=len(lengths), lengths=lengths)


def random_span_circuit(graph, share, names=NAMES, spans=SPANS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(len(names), graph.n_edges, generator=generator) < share
    parts = {name: sc.Circuit(graph, mask) for name, mask in zip(names, masks, strict=True)}
    return SpanCircuit(parts, spans)


# -- runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["components", "features", "neurons"])
@pytest.mark.parametrize("shape", MODELS)
def test_circuits_by_span_equal_the_reference(shape, what):
    model, graph, task = problem(shape, what)
    for share, direction in ((0.5, "noising"), (0.2, "denoising")):
        circuit = random_span_circuit(graph, share)
        ours = sc.ablate(model, circuit, task, direction=direction)
        slow = reference_span_logits(model, circuit, LABELS, task, direction=direction)
        torch.testing.assert_close(ours, slow, rtol=1e-8, atol=1e-9)
        plain = sc.ablate(model, circuit["rest"], task, direction=direction)
        assert (ours - plain).abs().max() > 1e-3


@pytest.mark.parametrize("intervention", ["zero", "mean", "mean-positional", "resample"])
@pytest.mark.parametrize("what", ["components", "features"])
def test_other_interventions_equal_the_reference(what, intervention):
    lengths = [6, 5, 5, 6]
    model, graph, task = problem("gpt2", what, lengths)
    labels = torch.tensor(
        [[0, 0, 2, 2, 2, 1], [0, 0, 2, 2, 1, 0], [0, 0, 2, 2, 1, 0], [0, 0, 2, 2, 2, 1]]
    )
    permutation = partners(task) if intervention == "resample" else None
    circuit = random_span_circuit(graph, 0.5)
    ours = sc.ablate(model, circuit, task, intervention=intervention)
    slow = reference_span_logits(
        model, circuit, labels, task, intervention=intervention, permutation=permutation
    )
    torch.testing.assert_close(ours, slow, rtol=1e-8, atol=1e-9)


def test_single_positions_equal_the_reference():
    model, graph, task = problem()
    names = [f"@{i}" for i in range(6)]
    circuit = random_span_circuit(graph, 0.5, names, "position")
    labels = torch.arange(6).expand(4, 6)
    slow = reference_span_logits(model, circuit, labels, task)
    torch.testing.assert_close(sc.ablate(model, circuit, task), slow, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("intervention", ["corrupt", "zero"])
@pytest.mark.parametrize("shape", HOOKED)
def test_the_same_edges_everywhere_are_the_circuit(shape, intervention):
    model, graph, task = problem(shape, "neurons" if shape == "pythia" else "components")
    mask = torch.rand(graph.n_edges, generator=torch.Generator().manual_seed(1)) < 0.5
    plain, like = sc.Circuit(graph, mask), random_span_circuit(graph, 0.5)
    for circuit in (plain, sc.Circuit.full(graph), sc.Circuit.empty(graph)):
        everywhere = SpanCircuit.everywhere(circuit, like)
        ours = sc.ablate(model, everywhere, task, intervention=intervention)
        want = sc.ablate(model, circuit, task, intervention=intervention)
        torch.testing.assert_close(ours, want, rtol=1e-10, atol=1e-10)


def test_results_do_not_depend_on_batches_or_on_how_spans_are_given():
    model, graph, task = problem()
    circuit = random_span_circuit(graph, 0.5)
    whole = sc.ablate(model, circuit, task)
    for size in (1, 3):
        torch.testing.assert_close(sc.ablate(model, circuit, task, batch_size=size), whole)
    at = {"start": LABELS == 0, "end": task.lengths - 1}
    other = SpanCircuit(circuit.parts, at)
    torch.testing.assert_close(sc.ablate(model, other, task), whole)
    turned = {name: circuit[name] for name in ("rest", "end", "start")}
    torch.testing.assert_close(sc.ablate(model, SpanCircuit(turned, SPANS), task), whole)


# -- from scores to measures -------------------------------------------------------------------


def test_the_largest_pairs_of_a_span_and_an_edge():
    model, graph, task = problem()
    scores = sc.attribute_spans(model, graph, task, SPANS, method="eap")
    values = scores.stacked
    for by, key in (("abs", values.abs()), ("help", -values), ("hurt", values)):
        circuit = top_n(scores, 40, by=by)
        assert len(circuit) == 40
        assert key[circuit.mask].min() >= key[~circuit.mask].max()
        assert top_n(scores, 30, by=by) <= circuit
        at_least = threshold(scores, float(key[circuit.mask].min()), by=by)
        assert at_least == circuit
    with pytest.raises(GraphError, match="pairs of a span and an edge asked for"):
        top_n(scores, 3 * graph.n_edges + 1)
    with pytest.raises(GraphError, match="take top_n or threshold"):  # in every other pruner
        sizes(scores, "abs")


def test_reports_and_curves(tmp_path):
    model, graph, task = problem()
    scores = sc.attribute_spans(model, graph, task, SPANS, method="eap")
    circuit = top_n(scores, 100)
    report = sc.evaluate(model, circuit, task, metric="logit_diff")
    logits = sc.ablate(model, circuit, task)
    rows = torch.arange(4)
    right, wrong = task.answer[:, 0], task.wrong[:, 0]
    want = (logits[rows, right] - logits[rows, wrong]).mean()
    assert report.circuit == pytest.approx(float(want), rel=1e-9)
    complement = sc.ablate(model, ~circuit, task)
    want = (complement[rows, right] - complement[rows, wrong]).mean()
    assert report.complement == pytest.approx(float(want), rel=1e-9)
    assert report.fraction == 100 / (3 * graph.n_edges)
    curve = sc.curve(model, scores, task, fractions=(0.2, 1), n_random=2)
    assert curve.n_edges == (int(0.2 * 3 * graph.n_edges), 3 * graph.n_edges)
    assert curve.faithfulness[-1] == pytest.approx(1)
    assert curve.random[0][0] != curve.random[1][0]
    report.save(tmp_path / "report")
    read = sc.load(tmp_path / "report" / "report.json")
    assert read.of == circuit
    assert read.faithfulness == report.faithfulness
    assert (tmp_path / "report" / "circuit.dot").exists()
    again = sc.load(tmp_path / "report" / "circuit.json")
    assert again == circuit
    assert again.spans == {"start": range(2), "end": -1}
    torch.testing.assert_close(again.scores.stacked, scores.stacked)
    torch.testing.assert_close(sc.ablate(model, again, task), logits)


def test_tensors_and_steps_survive_a_file(tmp_path):
    _, graph, task = problem()
    spans = {"a": range(0, 4, 2), "b": task.lengths - 1, "c": LABELS == 5}
    circuit = random_span_circuit(graph, 0.3, ("a", "b", "c", "rest"), spans)
    sc.save(circuit, tmp_path / "c.json")
    read = sc.load(tmp_path / "c.json")
    assert read == circuit
    assert read.spans["a"] == range(0, 4, 2)
    assert torch.equal(read.spans["b"], spans["b"])
    assert torch.equal(read.spans["c"], spans["c"])
    assert read.scores is None


# -- values ------------------------------------------------------------------------------------


def test_the_algebra_of_sets():
    _, graph, _ = problem()
    a, b = random_span_circuit(graph, 0.5), random_span_circuit(graph, 0.5, seed=1)
    assert (a & b) <= a
    assert a <= (a | b)
    assert (a - b) == (a & ~b)
    assert ~~a == a
    assert len(a) + len(~a) == 3 * graph.n_edges
    assert a != b
    assert len({a, b, a & a}) == 2
    assert a.union == a["start"] | a["end"] | a["rest"]
    assert a.nodes == a.union.nodes
    assert a._repr_html_() == a.union._repr_html_()
    assert a.fraction == len(a) / (3 * graph.n_edges)
    with pytest.raises(UnknownName, match="unknown span 'ends': did you mean 'end'"):
        _ = a["ends"]
    other = random_span_circuit(graph, 0.5, ("x",), {"x": 0})
    with pytest.raises(GraphError, match="the other circuit has the spans x"):
        _ = a & other
    with pytest.raises(GraphError, match="there is none"):
        SpanCircuit({}, {})
    with pytest.raises(UnknownName, match="span without a circuit 'end'"):
        SpanCircuit({"start": a["start"]}, SPANS)


def test_spans_that_do_not_fit_the_prompts():
    model, graph, task = problem()
    circuit = random_span_circuit(graph, 0.5, ("start", "end"))
    with pytest.raises(TaskError, match="position 2 of prompt 0 is in span 'rest'"):
        sc.ablate(model, circuit, task)
    positions = random_span_circuit(graph, 0.5, ("@0", "@1"), "position")
    with pytest.raises(TaskError, match="position 2 of prompt 0 is in span '@2'"):
        sc.ablate(model, positions, task)
    far = random_span_circuit(graph, 0.5, ("far", "rest"), {"far": 5})
    with pytest.raises(TaskError, match="prompt 1 has 4 tokens and no position 5"):
        sc.evaluate(model, far, task)
