"""Scores beside known circuits and other scores, circuits beside circuits, against brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from graph_strategies import RANDOM
from sae_circuits.errors import GraphError, NumericalError, OptionError
from sae_circuits.evaluation import against, agreement, overlap
from sae_circuits.evaluation.ranking import auroc, average_precision, precision_at
from sae_circuits.graph import Circuit, Scores
from small_circuits import graph_of, small_curve, small_report

pytestmark = pytest.mark.filterwarnings(f"ignore:{RANDOM}")
GRAPH = graph_of(1, 1)  # input, a0.h0, m0 and the logits: eight edges
EDGES = [edge.name for edge in GRAPH.edges]

tied = st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=2, max_size=7)


def columns(items) -> tuple[torch.Tensor, torch.Tensor]:
    values, positive = zip(*items, strict=True)
    return torch.tensor(values, dtype=torch.float64), torch.tensor(positive)


def every_order(values: torch.Tensor):
    """All orders from the largest value down, of which equal values have several."""
    for order in itertools.permutations(range(len(values))):
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order)):
            yield list(order)


@given(tied)
def test_auroc_is_the_share_of_pairs_in_the_right_order(items):
    values, positive = columns(items)
    pairs = [(a > b) + (a == b) / 2 for a in values[positive] for b in values[~positive]]
    expected = sum(map(float, pairs)) / len(pairs) if pairs else math.nan
    assert auroc(values, positive) == pytest.approx(expected, nan_ok=True)


@given(tied, st.integers(1, 4))
def test_an_item_without_a_value_counts_as_one_below_all(items, n_missed):
    values, positive = columns(items)
    low = torch.full((n_missed,), -9.0, dtype=torch.float64)
    more = torch.cat([values, low]), torch.cat([positive, torch.ones(n_missed, dtype=torch.bool)])
    assert auroc(values, positive, n_missed=n_missed) == pytest.approx(auroc(*more), nan_ok=True)
    found = average_precision(values, positive, n_missed=n_missed)
    share = int(positive.sum()) / int(more[1].sum())
    assert found == pytest.approx(share * average_precision(values, positive) if share else 0)


@given(tied)
def test_average_precision_is_the_sum_over_thresholds(items):
    values, positive = columns(items)
    expected, before = 0.0, 0
    for value in sorted(set(values.tolist()), reverse=True):
        at = values >= value
        hits = int((at & positive).sum())
        expected += (hits - before) * hits / int(at.sum())
        before = hits
    expected = expected / before if before else math.nan
    assert average_precision(values, positive) == pytest.approx(expected, nan_ok=True)


@given(tied.flatmap(lambda items: st.tuples(st.just(items), st.integers(1, len(items)))))
def test_precision_at_k_is_the_mean_over_orders_of_equal_values(drawn):
    items, k = drawn
    values, positive = columns(items)
    shares = [float(positive[order[:k]].double().mean()) for order in every_order(values)]
    assert precision_at(values, positive, k) == pytest.approx(sum(shares) / len(shares))


# -- scores beside a circuit ---------------------------------------------------------------------


def scores_of(**values: float) -> Scores:
    return Scores(GRAPH, torch.tensor([values.get(f"e{i}", 0.0) for i in range(8)]).double())


def test_scores_that_rank_the_circuit_first_are_perfect_and_equal_ones_are_chance():
    truth = Circuit.from_edges(GRAPH, [EDGES[1], EDGES[6]])
    perfect = against(scores_of(e1=-3.0, e6=2.0, e0=1.0), truth)
    assert (perfect.auroc, perfect.auprc, perfect.precision) == (1, 1, 1)
    assert (perfect.k, perfect.n_true, perfect.n_missed) == (2, 2, 0)
    chance = against(scores_of(), truth)
    assert (chance.auroc, chance.auprc, chance.precision) == (0.5, 2 / 8, 2 / 8)
    worst = against(scores_of(**{f"e{i}": 1.0 for i in (0, 2, 3, 4, 5, 7)}), truth)
    assert (worst.auroc, worst.auprc, worst.precision) == (0, 2 / 8, 0)


def test_scores_are_ranked_as_asked():
    truth, scores = Circuit.from_edges(GRAPH, [EDGES[1]]), scores_of(e1=-3.0, e6=5.0)
    assert [against(scores, truth, by=by).precision for by in ("abs", "help", "hurt")] == [0, 1, 0]
    assert [against(scores, truth, k=k).precision for k in (1, 2, 4)] == [0, 0.5, 0.25]


def test_edges_that_the_scores_graph_lacks_are_missed():
    part = GRAPH.subgraph(["input", "m0", "logits"])  # without the head: three of eight edges
    scores = Scores(part, torch.tensor([2.0, 1.0, 0.5]))
    names = [edge.name for edge in part.edges]
    truth = Circuit.from_edges(GRAPH, [names[0], "input->a0.h0<q>", "a0.h0->logits"])
    found = against(scores, truth)
    assert (found.n_true, found.n_missed, found.k) == (3, 2, 3)
    assert found.auroc == pytest.approx(1 / 3)
    assert found.auprc == pytest.approx(1 / 3)
    assert found.precision == pytest.approx(1 / 3)


def test_what_cannot_be_ranked_is_refused():
    scores, truth = scores_of(e0=1.0), Circuit.from_edges(GRAPH, [EDGES[1]])
    with pytest.raises(GraphError, match="has no edges: there is nothing to tell apart"):
        against(scores, Circuit.empty(GRAPH))
    with pytest.raises(GraphError, match="all edges that have a score"):
        against(scores, Circuit.full(GRAPH))
    for k in (0, 9):
        with pytest.raises(OptionError, match="give k from 1 to the 8 scores"):
            against(scores, truth, k=k)
    with pytest.raises(GraphError, match="cannot order by 'size'"):
        against(scores, truth, by="size")
    with pytest.raises(NumericalError, match="not numbers"):
        against(scores_of(e0=math.nan), truth)


# -- scores beside scores ------------------------------------------------------------------------


def test_agreement_is_scipys_and_its_own_definition():
    generator = torch.Generator().manual_seed(0)
    graph = graph_of(2, 2)
    one, other = (
        Scores(graph, torch.randn(graph.n_edges, generator=generator).double()) for _ in range(2)
    )
    other = one + other
    x, y = one.values.numpy(), other.values.numpy()
    found = agreement(one, other, total=20.0)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.sign == pytest.approx(((x > 0) == (y > 0)).mean())
    large = other.values.abs() > 0.4
    assert found.n_large == int(large.sum())
    assert found.auroc == pytest.approx(auroc(one.values.abs(), large))
    assert 0.5 < found.auroc < 1
    assert agreement(one, other, total=40.0, share=0.01) == found


def test_a_reference_agrees_with_itself_and_its_opposite_disagrees():
    scores = Scores(GRAPH, torch.tensor([0.0, 1.0, -2.0, 3.0, 0.0, 0.5, -0.25, 4.0]))
    same, opposite = agreement(scores, scores, total=50.0), agreement(-scores, scores, total=50.0)
    assert (same.pearson, same.spearman, same.sign, same.auroc) == pytest.approx((1, 1, 1, 1))
    assert (opposite.pearson, opposite.spearman, opposite.sign) == pytest.approx((-1, -1, 0))
    assert opposite.auroc == 1  # of sizes
    assert same.n_large == 3  # above 1


def test_the_total_effect_is_taken_from_a_report_or_a_curve():
    scores = Scores(GRAPH, torch.tensor([0.0, 1.0, -2.0, 3.0, 0.0, 0.049, 0.051, 4.0]))
    report, curve = small_report(), small_curve()  # both: clean 3, corrupt 0.5
    for total in (report, curve, 2.5):
        assert agreement(scores, scores, total=total).n_large == 5
    unknown = agreement(scores, scores)
    assert (unknown.n_large, math.isnan(unknown.auroc)) == (0, True)


def test_rounding_in_the_reference_has_no_sign():
    reference = Scores(GRAPH, torch.tensor([1e-9, 1.0, -1e-12, 0.0, 0.0, 0.0, 0.0, -1.0]).double())
    scores = Scores(GRAPH, torch.tensor([-1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]).double())
    assert agreement(scores, reference).sign == 0.5


def test_constant_scores_have_no_correlation_and_bad_input_is_refused():
    zero, scores = Scores(GRAPH, torch.zeros(8)), Scores(GRAPH, torch.arange(8.0))
    found = agreement(zero, scores)
    assert math.isnan(found.pearson)
    assert math.isnan(found.spearman)
    assert found.sign == 0
    assert math.isnan(agreement(scores, zero).sign)
    for total in (0.0, math.nan, -1.0):
        with pytest.raises(OptionError, match="give both above 0"):
            agreement(scores, scores, total=total)
    with pytest.raises(GraphError, match="the reference belongs to another graph"):
        agreement(scores, Scores(graph_of(2, 2), torch.zeros(46)))


# -- circuits beside circuits --------------------------------------------------------------------


def test_overlap_counts_edges_and_nodes():
    first = Circuit.from_edges(GRAPH, ["input->m0", "m0->logits", "input->a0.h0<q>"])
    second = Circuit.from_edges(GRAPH, ["input->m0", "input->logits"])
    found = overlap(first, second)
    edges, nodes = found.edges, found.nodes
    assert (edges.n_first, edges.n_second, edges.n_shared, edges.n_all) == (3, 2, 1, 8)
    assert (edges.jaccard, edges.precision, edges.recall) == (1 / 4, 1 / 3, 1 / 2)
    assert (edges.expected_precision, edges.expected_recall) == (2 / 8, 3 / 8)
    assert (nodes.n_first, nodes.n_second, nodes.n_shared, nodes.n_all) == (4, 3, 3, 4)
    assert repr(edges).startswith("SetOverlap(1 shared of 3 and 2: Jaccard 0.250, by chance 0.2")
    none = overlap(Circuit.empty(GRAPH), Circuit.empty(GRAPH)).edges
    assert math.isnan(none.jaccard)
    with pytest.raises(GraphError, match="another graph"):
        overlap(first, Circuit.empty(graph_of(2, 2)))


@pytest.mark.parametrize(("n_first", "n_second"), [(0, 3), (1, 1), (3, 5), (7, 6), (8, 8)])
def test_the_expected_overlap_is_the_mean_over_all_pairs_of_sets(n_first, n_second):
    def circuit(n):
        return Circuit(GRAPH, torch.arange(8) < n)

    found = overlap(circuit(n_first), circuit(n_second)).edges
    other = set(range(n_second))
    jaccards, precisions = [], []
    for drawn in map(set, itertools.combinations(range(8), n_first)):
        jaccards.append(len(drawn & other) / len(drawn | other))
        precisions.append(len(drawn & other) / max(n_first, 1))
    assert found.expected_jaccard == pytest.approx(sum(jaccards) / len(jaccards))
    assert found.expected_precision == pytest.approx(
        sum(precisions) / len(precisions) if n_first else n_second / 8
    )
