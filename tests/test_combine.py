"""Scores of several methods in one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sae_circuits as sc
from graph_strategies import RANDOM, architecture, graphs
from sae_circuits.errors import GraphError, NumericalError, OptionError, UnknownName
from sae_circuits.graph import Provenance, Scores, TensorGraph

pytestmark = pytest.mark.filterwarnings(f"ignore:{RANDOM}")

TINY = TensorGraph.from_model(architecture(1, 1))  # 8 edges


def scores_of(*values, method="", graph=TINY, **made) -> Scores:
    return Scores(graph, torch.tensor(values, dtype=torch.float64), Provenance(method, **made))


@st.composite
def several(draw: st.DrawFn, n: int | None = None) -> list[Scores]:
    """Scores of one graph at scales far apart, with ties, zeros and edges where signs differ."""
    graph = draw(graphs())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    found = []
    for i in range(n or draw(st.integers(1, 4))):
        values = torch.randint(-3, 4, (graph.n_edges,), generator=generator).double()
        if draw(st.booleans()):
            values = torch.randn(graph.n_edges, generator=generator, dtype=torch.float64)
        values[0] = 1.0  # not all zero
        found.append(Scores(graph, 10.0 ** (3 * i) * values))
    return found


# -- combining -------------------------------------------------------------------------------------


def slow_rank(values: list[float]) -> list[float]:
    """Pairs of edges compared one by one: smaller ones count 1, equal ones 1/2."""
    size, n = [abs(v) for v in values], len(values)
    places = [0.5 + sum((a > b) + 0.5 * (a == b) for b in size) for a in size]
    return [(v > 0) * p / n - (v < 0) * p / n for v, p in zip(values, places, strict=True)]


@settings(max_examples=30)
@given(several())
def test_ranks_combine_as_a_slow_version_does_edge_by_edge(some):
    each = [slow_rank(one.values.tolist()) for one in some]
    for how in ("mean", "min", "max"):
        found = sc.combine(some, how).values.tolist()
        for edge, ranks in enumerate(zip(*each, strict=True)):
            sizes = [abs(rank) for rank in ranks]
            size = {"mean": sum(sizes) / len(sizes), "min": min(sizes), "max": max(sizes)}[how]
            vote = round(sum(ranks), 9) or next(filter(None, ranks), 0)
            want = size * ((vote > 0) - (vote < 0))
            assert found[edge] == pytest.approx(want, abs=1e-12)


@settings(max_examples=30)
@given(several())
def test_the_mean_lies_between_what_all_and_what_any_find(some):
    least, mean, most = (sc.combine(some, how).values for how in ("min", "mean", "max"))
    assert bool((least.abs() <= mean.abs() + 1e-12).all())
    assert bool((mean.abs() <= most.abs() + 1e-12).all())
    assert bool((least * most >= 0).all())  # one vote decides all signs


@settings(max_examples=30)
@given(several(), st.sampled_from(["mean", "min", "max", "weighted"]), st.floats(1e-3, 1e3))
def test_neither_scale_nor_repetition_matters_and_signs_turn_together(some, how, factor):
    once = sc.combine(some, how).values
    for other in ([factor * some[0], *some[1:]], some * 2):
        torch.testing.assert_close(sc.combine(other, how).values, once, rtol=1e-9, atol=1e-12)
    turned = sc.combine([-one for one in some], how).values
    torch.testing.assert_close(turned, -once, rtol=1e-9, atol=1e-12)
    backwards = sc.combine(some[::-1], how).values  # the order decides ties of signs alone
    torch.testing.assert_close(backwards.abs(), once.abs(), rtol=1e-9, atol=1e-12)


def test_signs_that_differ_are_put_to_the_vote():
    a, b = scores_of(8, 7, -6, 5, 4, 3, 2, 0), scores_of(-7, 8, -6, -5, 4, 3, 0, 1)
    assert sc.combine([a, b], "min").values[:4].tolist() == [7 / 8, 7 / 8, -6 / 8, 5 / 8]
    assert sc.combine([b, a], "min").values[:4].tolist() == [7 / 8, 7 / 8, -6 / 8, -5 / 8]
    assert sc.combine([a, b], "max").values[:4].tolist() == [1.0, 1.0, -6 / 8, 5 / 8]
    assert sc.combine([a, b]).values[6:].tolist() == [1 / 8, 1 / 8]  # one alone: half its rank of 2


def test_of_a_tie_the_first_that_says_anything_decides():
    rest = (8, 7, 6, 5, 4, 3, 2)
    none, up, down = (scores_of(one, *rest) for one in (0, 1, -1))
    assert sc.combine([none, up, down]).values[0] == pytest.approx(2 / 3 / 8)
    assert sc.combine([none, down, up], "max").values[0] == -1 / 8
    assert sc.combine([up, none, down], "min").values[0] == 0


def test_of_one_method_the_order_of_edges_stays():
    one = scores_of(0.1, -3.0, 0.0, 2.0, -0.5, 0.0, 1.0, 0.2)
    for how in ("mean", "min", "max", "weighted"):
        for by in ("abs", "help", "hurt"):
            found = sc.combine([one], how)
            assert found.order(by=by).tolist() == one.order(by=by).tolist()
    assert sc.combine([one]).values.tolist() == [
        3 / 8, -1.0, 0.0, 7 / 8, -5 / 8, 0.0, 6 / 8, 4 / 8
    ]  # fmt: skip
    scaled = sc.combine([one], "weighted").values
    assert float(scaled.square().mean()) == pytest.approx(1)


def test_weights_count_and_one_alone_decides():
    a = scores_of(1.0, -1.0, 0, 0, 0, 0, 0, 0)
    b = scores_of(0, 0, 300.0, 0, 0, 0, 0, 400.0)
    mixed = sc.combine([a, b], "weighted", weights=[3, 1]).values
    want = 0.75 * a.values / 0.5 + 0.25 * b.values / (500 / 8**0.5)
    torch.testing.assert_close(mixed, want)
    alone = sc.combine([a, b], "weighted", weights=[0, 2]).values
    torch.testing.assert_close(alone, sc.combine([b], "weighted").values)


def test_the_record_says_what_was_combined_and_survives_a_file(tmp_path):
    common = {"model": "toy", "task": "ioi", "metric": "logit_diff", "n_examples": 8}
    a = scores_of(*range(8), method="eap", seed=0, **common)
    b = scores_of(*range(8), method="eap-ig", seed=1, options={"steps": 5}, **common)
    found = sc.combine([a, b], "weighted", weights=[1, 3])
    made = found.provenance
    assert made.method == "weighted mean (eap, eap-ig)"
    assert made.metric == "standard unit of logit_diff"
    assert (made.model, made.task, made.n_examples, made.seed) == ("toy", "ioi", 8, None)
    assert made.options["weights"] == (0.25, 0.75)
    assert [one["method"] for one in made.options["scores"]] == ["eap", "eap-ig"]
    assert made.options["scores"][1]["options"] == {"steps": 5}
    sc.save(found, tmp_path / "scores.safetensors")
    again = sc.load(tmp_path / "scores.safetensors", Scores)
    assert again.provenance == made
    assert torch.equal(again.values, found.values)


def test_what_cannot_be_combined_is_refused():
    a = scores_of(*range(8), method="eap")
    other = TensorGraph.from_model(architecture(2, 1))
    nan = scores_of(0, float("nan"), 0, 0, 0, 0, 0, 0)
    cases = [
        (lambda: sc.combine([]), OptionError, "no scores to combine"),
        (lambda: sc.combine([a], "median"), UnknownName, "unknown way to combine 'median'"),
        (lambda: sc.combine([a, Scores(other, torch.ones(other.n_edges))]), GraphError,
         "scores 1 belongs to another graph"),
        (lambda: sc.combine([a, nan]), NumericalError, "scores 1 .* 1 edges, the first 'input->a0"),
        (lambda: sc.combine([0 * a], "weighted"), NumericalError, "all zero"),
        (lambda: sc.combine([a], "max", weights=[1]), OptionError, "are for how='weighted'"),
        (lambda: sc.combine([a], "weighted", weights=[1, 2]), OptionError, "do not fit 1 scores"),
        (lambda: sc.combine([a, a], "weighted", weights=[1, -1]), OptionError, "none below zero"),
        (lambda: sc.combine([a, a], "weighted", weights=[0, 0]), OptionError, "not all zero"),
        (lambda: sc.combine([a], "weighted", weights=[float("nan")]), OptionError, "do not fit"),
    ]  # fmt: skip
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
