"""Stability against attributions of the same samples, one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from sae_circuits.attribution import attribute
from sae_circuits.errors import GraphError, OptionError
from sae_circuits.evaluation import against, overlap, stability
from sae_circuits.graph import Scores, TensorGraph
from sae_circuits.prune import top_n
from shapes import HOOKED, random_task


@pytest.fixture(scope="module")
def model():
    return HOOKED["no-norm"]()


@pytest.fixture(scope="module")
def graph(model):
    return TensorGraph.from_model(model)


@pytest.fixture(scope="module")
def task(model):
    return random_task(model, n=6)


@pytest.fixture(scope="module")
def other(model, task):
    swapped = random_task(model, n=6, seed=7)
    return type(task).from_tokens(task.clean, swapped.corrupt, answer=task.answer, wrong=task.wrong)


@pytest.fixture(scope="module")
def found(model, graph, task, other):
    how = {"method": "eap", "n": 10, "by": "help", "n_resamples": 4, "seed": 3}
    return stability(model, graph, task, other=other, **how)


def test_each_sample_is_drawn_and_scored_on_its_own(model, graph, task, found):
    alone = attribute(model, graph, task, method="eap")
    torch.testing.assert_close(found.scores.values, alone.values)
    each = [attribute(model, graph, task[i], method="eap").values for i in range(6)]
    table = torch.stack(each)
    for row in found.resamples:  # a mean over six draws: some whole number of each example
        weights = torch.linalg.lstsq(table.T, row[:, None]).solution[:, 0] * 6
        torch.testing.assert_close(weights, weights.round(), atol=1e-6, rtol=0)
        assert round(float(weights.sum())) == 6
    assert len({tuple(row.tolist()) for row in found.resamples}) == 4


def test_agreement_within_and_across_tasks_is_over_pairs_of_samples(found):
    def circuit(values):
        return top_n(Scores(found.scores.graph, values), 10, by="help")

    rows, others = found.resamples, found.other_resamples
    pairs = list(itertools.combinations(rows, 2))
    across = list(itertools.product(rows, others))
    for name, some in (("", pairs), ("_other", across)):
        spearman = [stats.spearmanr(a, b).statistic for a, b in some]
        jaccard = [overlap(circuit(a), circuit(b)).edges.jaccard for a, b in some]
        for what, expected in (("spearman", spearman), ("jaccard", jaccard)):
            assert getattr(found, what + name) == pytest.approx(sum(expected) / len(expected))
            ends = np.quantile(expected, [0.025, 0.975])
            assert found.interval(what + name) == pytest.approx(ends)
    assert found.spearman > found.spearman_other  # other corrupt prompts give other scores


def test_edges_have_a_share_of_circuits(found):
    chosen = found.chosen
    assert chosen.values.sum() == pytest.approx(10)
    edge = found.scores.top(1, by="help")[0][0]
    assert chosen[edge] > 0.5
    assert set(chosen.values.tolist()) <= {0, 0.25, 0.5, 0.75, 1}


def test_any_statistic_of_scores_has_an_interval(found):
    truth = top_n(found.scores, 10)
    values = [against(Scores(truth.graph, row), truth).auroc for row in found.resamples]
    low, high = found.interval(lambda scores: against(scores, truth).auroc)
    assert min(values) <= low <= high <= max(values)
    assert found.interval(lambda scores: 1.0) == (1, 1)
    with pytest.raises(OptionError, match="no interval of 'pearson'"):
        found.interval("pearson")


def test_examples_that_are_all_the_same_are_perfectly_stable(model, graph, task):
    same = task[[0, 0, 0]]
    found = stability(model, graph, same, method="eap", n_resamples=3)
    assert found.n == graph.n_edges // 10
    assert (found.spearman, found.jaccard) == pytest.approx((1, 1))
    assert math.isnan(found.spearman_other)
    assert repr(found).startswith("Stability(3 samples; Spearman 1.000 [1.000, 1.000], overlap@")


def test_wrong_numbers_are_refused_before_any_run(graph, task):
    with pytest.raises(OptionError, match="1 samples: give 2 or more"):
        stability(None, graph, task, n_resamples=1)
    with pytest.raises(GraphError, match="give n from 1 to"):
        stability(None, graph, task, n=graph.n_edges + 1)
