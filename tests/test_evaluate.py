"""Measures against known answers, and evaluations against the slow ablation."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import RANDOM as NOT_OURS
from reference_ablation import reference_logits
from sae_circuits import metrics, prune
from sae_circuits.ablation import run_circuits
from sae_circuits.attribution import attribute
from sae_circuits.errors import GraphError, MetricError, NumericalError, OptionError, UnknownName
from sae_circuits.evaluation import (
    FRACTIONS,
    Curve,
    bootstrap,
    cmd,
    cpr,
    curve,
    evaluate,
    recovered,
)
from sae_circuits.evaluation.report import MEASURES, RANDOM
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.tasks import Task
from shapes import BRIDGED, HOOKED, random_task

pytestmark = pytest.mark.filterwarnings(f"ignore:{NOT_OURS}")
SHAPES = sorted(HOOKED)


def draw(graph: TensorGraph, density: float, seed: int = 0) -> Circuit:
    generator = torch.Generator().manual_seed(seed)
    return Circuit(graph, torch.rand(graph.n_edges, generator=generator) < density)


@pytest.fixture(scope="module")
def model():
    return HOOKED["gpt2"]()


@pytest.fixture(scope="module")
def graph(model):
    return TensorGraph.from_model(model)


@pytest.fixture(scope="module")
def task(model):
    return random_task(model, n=5, pos=6, lengths=[6, 4, 5, 6, 4])


@pytest.fixture(scope="module")
def scores(model, graph, task):
    return attribute(model, graph, task, method="eap")


# -- areas with known answers --------------------------------------------------------------------


def test_the_fractions_are_the_benchmarks():
    assert FRACTIONS == (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@pytest.mark.parametrize(
    ("faithfulness", "expected_cpr", "expected_cmd"),
    [
        ([1.0] * 10, 0.999, 0.0),  # a perfect circuit at every size
        ([0.0] * 10, 0.0, 0.999),  # nothing recovered, not even by all edges
        ([2.0] * 10, 1.998, 0.999),  # better than the model: no bound on CPR, a distance in CMD
        ([*[0.0] * 9, 1.0], 0.25, 0.749),  # a jump at the end: what random circuits come near
        (list(FRACTIONS), (1 - 0.001**2) / 2, 0.999 - (1 - 0.001**2) / 2),  # trapezoids are exact
        ([*[1.0] * 8, -1.0, 1.0], 0.999 - 0.3 - 0.5, 0.3 + 0.5),  # one bad size at 50%
    ],
    ids=["perfect", "nothing", "twice", "late", "linear", "dip"],
)
def test_areas_of_known_curves(faithfulness, expected_cpr, expected_cmd):
    assert cpr(FRACTIONS, faithfulness) == pytest.approx(expected_cpr, abs=1e-12)
    assert cmd(FRACTIONS, faithfulness) == pytest.approx(expected_cmd, abs=1e-12)


@given(
    st.lists(st.floats(0.001, 1), min_size=2, max_size=6, unique=True).map(sorted),
    st.integers(0, 2**31),
)
def test_from_zero_one_triangle_is_added_below_the_first_fraction(fractions, seed):
    f = torch.rand(len(fractions), generator=torch.Generator().manual_seed(seed)).double() * 3 - 1
    kept, first = f.tolist(), fractions[0]
    below = cpr(fractions, kept, from_zero=True) - cpr(fractions, kept)
    assert below == pytest.approx(first * kept[0] / 2)
    below = cmd(fractions, kept, from_zero=True) - cmd(fractions, kept)
    assert below == pytest.approx(first * (1 + abs(1 - kept[0])) / 2)
    with_point = ([0, *fractions], [0, *kept])
    assert cpr(fractions, kept, from_zero=True) == pytest.approx(cpr(*with_point))
    assert cmd(fractions, kept, from_zero=True) == pytest.approx(cmd(*with_point))


def test_from_zero_a_perfect_circuit_lacks_half_of_the_first_step():
    assert cpr(FRACTIONS, [1.0] * 10, from_zero=True) == pytest.approx(0.9995)
    assert cmd(FRACTIONS, [1.0] * 10, from_zero=True) == pytest.approx(0.0005)
    line = (0.25, 0.5, 1.0)  # a straight line from 0: a half of either area, whatever the points
    for points in (line, (1.0,), (0.1, 1.0)):
        assert cpr(points, points, from_zero=True) == pytest.approx(0.5)
        assert cmd(points, points, from_zero=True) == pytest.approx(0.5)


def test_areas_need_a_value_for_each_fraction():
    with pytest.raises(OptionError, match="1 values for 10 fractions"):
        cpr(FRACTIONS, [1.0])


def test_recovered_is_zero_at_corrupt_one_at_clean_and_linear_between():
    assert recovered(1.0, clean=3.0, corrupt=1.0) == 0
    assert recovered(3.0, clean=3.0, corrupt=1.0) == 1
    assert recovered(-1.0, clean=3.0, corrupt=1.0) == -1
    assert recovered(0.3, clean=0.0, corrupt=2.0) == pytest.approx(0.85)  # a metric to be small
    for same in (0.0, 2.0, -1e9):
        with pytest.raises(MetricError, match="no gap to recover; use corrupt prompts"):
            recovered(1.0, clean=same, corrupt=same)


# -- the bootstrap -------------------------------------------------------------------------------


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one_on_many_examples():
    values = torch.randn(400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap(values, lambda means: means[:, 0], n_resamples=4000)
    mean, error = float(values.mean()), float(values.std()) / 20
    assert low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)


def test_the_bootstrap_keeps_an_examples_columns_together():
    rows = torch.rand(30, 1, generator=torch.Generator().manual_seed(0)) + 1
    low, high = bootstrap(torch.cat([3 * rows, rows], 1), lambda means: means[:, 0] / means[:, 1])
    assert low == pytest.approx(3) == high


def test_the_bootstrap_is_seeded_and_leaves_out_what_is_not_finite():
    values = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))

    def ratio(means):
        return means[:, 0] / means[:, 1]

    assert bootstrap(values, ratio, seed=1) == bootstrap(values, ratio, seed=1)
    assert bootstrap(values, ratio, seed=1) != bootstrap(values, ratio, seed=2)
    assert all(map(math.isfinite, bootstrap(torch.eye(2), ratio)))
    assert all(map(math.isnan, bootstrap(torch.zeros(2, 2), ratio)))


# -- evaluate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_report_is_the_slow_ablation_put_into_the_formulas(shape):
    model = HOOKED[shape]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=3, n_answers=2, n_wrong=2)
    circuit = draw(graph, 0.6)
    report = evaluate(model, circuit, task, metric=metrics.prob_diff)
    clean = model(task.clean)[torch.arange(3), task.position].detach()
    goal = metrics.Targets.of(task, clean)

    def values(of, metric=metrics.prob_diff):
        return metric(reference_logits(model, of, task), goal).double()

    expected = {
        "circuit": values(circuit),
        "complement": values(~circuit),
        "corrupt": values(Circuit.empty(graph)),
        "clean": metrics.prob_diff(clean, goal),
        "accuracy": values(circuit, metrics.accuracy),
        "clean_accuracy": metrics.accuracy(clean, goal),
        "corrupt_accuracy": values(Circuit.empty(graph), metrics.accuracy),
    }
    for name, value in expected.items():
        torch.testing.assert_close(report.examples[name], value, rtol=0, atol=1e-9)
        assert getattr(report, name) == pytest.approx(float(value.mean()), abs=1e-9)
    gap = report.clean - report.corrupt
    assert report.faithfulness == pytest.approx((report.circuit - report.corrupt) / gap)
    assert report.completeness == pytest.approx((report.complement - report.corrupt) / gap)
    own = expected["clean"] - expected["corrupt"]
    share = (expected["circuit"] - expected["corrupt"]) / own
    torch.testing.assert_close(report.examples["faithfulness"], share, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("intervention", ["corrupt", "zero", "mean", "mean-positional", "resample"])
def test_the_full_circuit_is_perfect_and_the_empty_one_nothing(model, graph, intervention):
    task = random_task(model, n=4)
    full = evaluate(model, Circuit.full(graph), task, intervention=intervention)
    empty = evaluate(model, Circuit.empty(graph), task, intervention=intervention)
    assert full.faithfulness == pytest.approx(1) == empty.completeness
    assert full.completeness == pytest.approx(0, abs=1e-9)
    assert empty.faithfulness == pytest.approx(0, abs=1e-9)
    assert full.circuit == pytest.approx(full.clean) == pytest.approx(empty.clean)
    assert full.corrupt == pytest.approx(empty.corrupt)
    assert full.interval("faithfulness") == pytest.approx((1, 1))
    assert full.provenance.intervention == intervention


def test_denoising_restores_and_has_the_same_ends(model, graph, task):
    circuit = draw(graph, 0.5)
    one, other = (evaluate(model, circuit, task, direction=d) for d in ("noising", "denoising"))
    assert (one.clean, one.corrupt) == pytest.approx((other.clean, other.corrupt))
    assert one.circuit != pytest.approx(other.circuit)
    logits = reference_logits(model, circuit, task, direction="denoising")
    assert other.circuit == pytest.approx(
        float(metrics.logit_diff(logits, metrics.Targets.of(task, logits)).mean())
    )
    assert other.provenance.options["direction"] == "denoising"


def test_kl_and_cross_entropy_recover_downwards(model, graph, task):
    report = evaluate(model, draw(graph, 0.9), task, metric=metrics.kl)
    assert report.clean == pytest.approx(0, abs=1e-9)
    assert report.circuit > 0
    assert report.faithfulness == pytest.approx(1 - report.circuit / report.corrupt)


def test_a_metric_of_ones_own_is_called_by_its_contract(model, graph, task):
    seen = []

    def first_answer(logits, targets):
        seen.append((logits.shape, targets.clean_logits.shape, targets.answer.shape))
        return logits.gather(1, targets.answer[:, :1])[:, 0]

    report = evaluate(model, draw(graph, 0.5), task, metric=first_answer, batch_size=5)
    assert report.provenance.metric == "first_answer"
    assert set(seen) == {((5, 40), (5, 40), (5, 1))}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_batches_and_the_order_of_examples_change_nothing(model, graph, task, size):
    circuit = draw(graph, 0.5)
    whole = evaluate(model, circuit, task)
    batched = evaluate(model, circuit, task, batch_size=size)
    turned = evaluate(model, circuit, task[[4, 2, 0, 1, 3]])
    for name in MEASURES:
        torch.testing.assert_close(
            batched.examples[name], whole.examples[name], rtol=1e-6, atol=1e-9
        )
        assert getattr(turned, name) == pytest.approx(getattr(whole, name), rel=1e-6)


def test_a_report_has_every_measure_with_interval_and_examples(model, graph, task, scores):
    report = evaluate(model, prune.top_n(scores, 40), task, n_bootstrap=200, seed=3)
    assert set(report.examples) == set(report.intervals) == set(MEASURES)
    for name in MEASURES:
        low, high = report.interval(name)
        assert low - 1e-9 <= getattr(report, name) <= high + 1e-9 or name in (
            "faithfulness",
            "completeness",
        )
        assert report.examples[name].shape == (5,)
    assert (report.n_edges, report.fraction) == (40, 40 / graph.n_edges)
    assert report.scores is scores
    assert report.provenance.method == "eap"
    assert report.provenance.seed == 3
    assert report.provenance.n_examples == 5
    assert report.provenance.task_id == task.fingerprint
    assert repr(report).startswith(f"Report(faithfulness {report.faithfulness:.3f} [")
    with pytest.raises(UnknownName, match="unknown measure 'faithfulnes': did you mean"):
        report.interval("faithfulnes")
    again = evaluate(model, prune.top_n(scores, 40), task, n_bootstrap=200, seed=3)
    assert dict(again.intervals) == dict(report.intervals)


def test_both_kinds_of_model_can_be_evaluated():
    model = BRIDGED["llama"]()
    graph, task = TensorGraph.from_model(model), random_task(model)
    assert evaluate(model, Circuit.full(graph), task).faithfulness == pytest.approx(1, abs=1e-5)
    assert evaluate(model, Circuit.empty(graph), task).faithfulness == pytest.approx(0, abs=1e-5)


# -- the curve -----------------------------------------------------------------------------------


def test_a_curves_points_are_reports_of_the_pruned_circuits(model, graph, task, scores):
    found = curve(model, scores, task, fractions=(0.05, 0.3, 1), by="help", n_random=2, seed=1)
    assert found.n_edges == tuple(int(f * graph.n_edges) for f in (0.05, 0.3, 1))
    for n, value, share in zip(found.n_edges, found.values, found.faithfulness, strict=True):
        report = evaluate(model, prune.top_n(scores, n, by="help"), task)
        assert (value, share) == pytest.approx((report.circuit, report.faithfulness))
        assert (found.clean, found.corrupt) == pytest.approx((report.clean, report.corrupt))
    assert found.faithfulness[-1] == pytest.approx(1)
    assert found.cpr == cpr(found.fractions, found.faithfulness)
    assert found.cmd == cmd(found.fractions, found.faithfulness)
    assert found.by == "help"
    assert found.provenance.method == "eap"


def test_random_circuits_have_the_same_sizes_other_edges_and_their_own_seed(
    model, graph, task, scores
):
    found = curve(model, scores, task, n_random=3, seed=0)
    assert len(found.random) == 3
    assert len({row[-2] for row in found.random}) == 3
    assert all(row[-1] == pytest.approx(1) for row in found.random)
    again = curve(model, scores, task, n_random=2, seed=1)
    assert again.random == found.random[1:]
    assert found.random_cpr == pytest.approx(sum(cpr(FRACTIONS, row) for row in found.random) / 3)
    assert found.random_cmd == pytest.approx(sum(cmd(FRACTIONS, row) for row in found.random) / 3)
    alone = curve(model, scores, task, n_random=0)
    assert alone.random == ()
    assert math.isnan(alone.random_cpr)
    assert alone.faithfulness == pytest.approx(found.faithfulness)


def test_one_replacement_run_serves_all_circuits_and_equal_ones_run_once(
    model, graph, task, scores, monkeypatch
):
    asked = []

    def counted(model, circuits, *rest, **more):
        asked.append(circuits)
        return run_circuits(model, circuits, *rest, **more)

    module = importlib.import_module("sae_circuits.evaluation.per_example")
    monkeypatch.setattr(module, "run_circuits", counted)
    found = curve(model, scores, task, n_random=2)
    assert len(asked) == 1
    assert len(asked[0]) == len(set(asked[0]))
    above = sum(0 < n < graph.n_edges for n in found.n_edges)
    assert (
        len(asked[0]) == 1 + 3 * above
    )  # the empty circuit, and three rows; the full one is clean


def test_a_curve_takes_any_pruner(model, task, scores):
    def only_live(scores, n, by):
        return prune.drop_dead_nodes(prune.best_first(scores, n, by=by))

    found = curve(model, scores, task, fractions=(0.2, 1), pruner=only_live)
    report = evaluate(model, only_live(scores, found.n_edges[0], "abs"), task)
    assert found.faithfulness[0] == pytest.approx(report.faithfulness)
    assert found.pruner == "only_live"
    assert curve(model, scores, task, fractions=(1,), n_random=0).pruner == "top_n"


def test_a_curves_intervals_are_the_bootstraps_of_its_reports(model, graph, task, scores):
    how = {"fractions": (0.2, 0.6, 1), "n_bootstrap": 300, "seed": 2}
    found = curve(model, scores, task, random=["size", "degrees"], n_random=2, **how)
    picks = torch.randint(5, (300, 5), generator=torch.Generator().manual_seed(2))
    reports = [evaluate(model, prune.top_n(scores, n), task) for n in found.n_edges]
    clean, corrupt = (reports[0].examples[name][picks].mean(1) for name in ("clean", "corrupt"))
    drawn = [(r.examples["circuit"][picks].mean(1) - corrupt) / (clean - corrupt) for r in reports]
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    for column, band in zip(drawn, found.band, strict=True):
        assert band == pytest.approx(torch.quantile(column, ends).tolist())
    table = torch.stack(drawn, 1).tolist()
    for name, area in (("cpr", cpr), ("cmd", cmd)):
        for suffix, from_zero in (("", False), ("_from_zero", True)):
            each = torch.tensor([area(found.fractions, f, from_zero=from_zero) for f in table])
            expected = torch.quantile(each.double(), ends).tolist()
            assert found.interval(name + suffix) == pytest.approx(expected, rel=1e-6)
            of_all = area(found.fractions, found.faithfulness, from_zero=from_zero)
            assert getattr(found, name + suffix) == of_all
    randoms = {f"{kind}_{area}" for kind in ("random", "degrees") for area in ("cpr", "cmd")}
    own = {f"{area}{end}" for area in ("cpr", "cmd") for end in ("", "_from_zero")}
    assert set(found.intervals) == randoms | own
    assert repr(found).startswith(f"Curve(3 sizes by 'abs', CPR {found.cpr:.3f} [")
    with pytest.raises(UnknownName, match="unknown area with an interval 'cprs': did you mean"):
        found.interval("cprs")


def test_a_curve_keeps_the_metric_of_each_example(model, graph, task, scores):
    found = curve(model, scores, task, fractions=(0.2, 1), n_random=0)
    report = evaluate(model, prune.top_n(scores, found.n_edges[0]), task)
    torch.testing.assert_close(found.examples["values"][0], report.examples["circuit"])
    torch.testing.assert_close(found.examples["values"][1], report.examples["clean"])
    for name in ("clean", "corrupt"):
        torch.testing.assert_close(found.examples[name], report.examples[name])
    assert found.weighted_edges == pytest.approx(found.n_edges)


def test_random_circuits_of_equal_degrees_stand_beside_those_of_equal_size(
    model, graph, task, scores
):
    both = curve(model, scores, task, fractions=(0.3, 1), random=("size", "degrees"), n_random=2)
    for kind, rows in (("size", both.random), ("degrees", both.degrees)):
        alone = curve(model, scores, task, fractions=(0.3, 1), random=kind, n_random=2)
        found = alone.random or alone.degrees
        assert np.asarray(found) == pytest.approx(np.asarray(rows))
        assert not (alone.random and alone.degrees)
        for i, row in enumerate(rows):
            best = prune.top_n(scores, both.n_edges[0])
            drawn = prune.random_circuit(best, seed=i, degrees=kind == "degrees")
            assert row[0] == pytest.approx(evaluate(model, drawn, task).faithfulness)
    assert both.degrees_cpr == pytest.approx(
        sum(cpr(both.fractions, row) for row in both.degrees) / 2
    )
    with pytest.raises(UnknownName, match="unknown kind of random circuits 'degree'"):
        curve(model, scores, task, random="degree")


def test_a_report_has_random_circuits_where_they_are_asked_for(model, graph, task, scores):
    circuit = prune.top_n(scores, 30)
    report = evaluate(model, circuit, task, n_random=2, seed=5)
    for name, degrees in (("random", False), ("degrees", True)):
        drawn = [prune.random_circuit(circuit, seed=5 + i, degrees=degrees) for i in range(2)]
        each = torch.stack([evaluate(model, c, task).examples["circuit"] for c in drawn]).mean(0)
        torch.testing.assert_close(report.examples[name], each)
        share = recovered(float(each.mean()), clean=report.clean, corrupt=report.corrupt)
        assert getattr(report, f"faithfulness_{name}") == pytest.approx(share)
        assert getattr(report, name) == pytest.approx(float(each.mean()))
        assert report.interval(f"faithfulness_{name}") == report.intervals[f"faithfulness_{name}"]
    assert set(report.measures) == set(report.examples) == {*MEASURES, *RANDOM}
    plain = evaluate(model, circuit, task, seed=5)
    assert plain.measures == MEASURES
    for name in MEASURES:
        assert plain.intervals[name] == pytest.approx(report.intervals[name])
    with pytest.raises(OptionError, match="no random circuits were run: evaluate with n_random=1"):
        _ = plain.faithfulness_random


def test_a_perfect_ranking_scores_as_the_benchmark_says():
    perfect = Curve(FRACTIONS, (1,) * 10, (3.0,) * 10, ((1.0,) * 10,), clean=3.0, corrupt=1.0)
    assert (perfect.cpr, perfect.cmd) == pytest.approx((0.999, 0))
    assert (perfect.random_cpr, perfect.random_cmd) == pytest.approx((0, 0.999))
    assert perfect.random == ((0.0,) * 10,)


# -- what is refused -----------------------------------------------------------------------------


def test_a_metric_without_a_gap_is_refused_with_the_remedy(model, graph, task, scores):
    same = Task.from_tokens(task.clean, task.clean, answer=task.answer, wrong=task.wrong)
    with pytest.raises(MetricError, match=r"'logit_diff' is constant on all 5 examples.*no gap"):
        evaluate(model, Circuit.full(graph), same)
    with pytest.raises(MetricError, match=r"'zero' is constant.*use corrupt prompts that change"):
        curve(model, scores, task, metric=lambda_named_zero)


def lambda_named_zero(logits, targets):
    return logits[:, 0] * 0


lambda_named_zero.__name__ = "zero"


def test_gaps_that_cancel_are_told_from_gaps_that_are_not_there(model, graph):
    one = random_task(model, n=1)
    both = Task.from_tokens(
        torch.cat([one.clean, one.corrupt]),
        torch.cat([one.corrupt, one.clean]),
        answer=one.answer.repeat(2, 1),
        wrong=one.wrong.repeat(2, 1),
    )
    with pytest.raises(MetricError, match="constant in the mean, though not on each"):
        evaluate(model, Circuit.full(graph), both)


def test_a_metric_that_breaks_its_contract_is_refused(model, graph, task):
    circuit = draw(graph, 0.5)
    with pytest.raises(MetricError, match=r"returned \(\): one number per example, \(5,\)"):
        evaluate(model, circuit, task, metric=lambda logits, targets: logits.sum(), batch_size=5)
    with pytest.raises(MetricError, match="returned float: one number per example"):
        evaluate(model, circuit, task, metric=lambda logits, targets: 0.5)

    def broken(logits, targets):
        return torch.where(torch.arange(len(logits)) == 1, torch.nan, logits[:, 0])

    with pytest.raises(NumericalError, match="'broken' is not finite for example 1 under"):
        evaluate(model, circuit, task, metric=broken, batch_size=5)


def test_a_circuit_of_another_models_graph_is_refused(graph, task):
    other = HOOKED["pythia"]()
    with pytest.raises(GraphError):
        evaluate(other, Circuit.full(graph), task)
    with pytest.raises(GraphError):
        curve(other, Scores(graph, torch.zeros(graph.n_edges)), task)


@pytest.mark.parametrize("fractions", [(), (0.0, 1.0), (0.5, 0.1), (0.1, 0.1), (0.5, 1.5), (-1.0,)])
def test_fractions_that_do_not_ascend_within_the_graph_are_refused(model, task, scores, fractions):
    with pytest.raises(OptionError, match="shares of the edges that ascend"):
        curve(model, scores, task, fractions=fractions)


def test_evaluation_leaves_the_model_as_it_was(model, graph, task, scores):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    evaluate(model, draw(graph, 0.5), task)
    with pytest.raises(ZeroDivisionError):
        evaluate(model, draw(graph, 0.5), task, metric=lambda logits, targets: 1 / 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert not any(point.fwd_hooks or point.bwd_hooks for point in model.hook_dict.values())
