from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_circuits import metrics
from sae_circuits.errors import MetricError, UnknownName
from sae_circuits.metrics import Targets

DIFFERENTIABLE = ("logit_diff", "prob_diff", "kl", "cross_entropy")
PROBS = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], dtype=torch.float64)


def targets(answer, wrong, clean=PROBS) -> Targets:
    ids = torch.tensor(wrong, dtype=torch.int64).reshape(2, -1)
    return Targets(torch.tensor(answer), ids, clean.log())


def test_logit_diff_is_the_difference_of_means():
    logits = torch.tensor([[1.0, 2.0, 4.0, 8.0], [3.0, 5.0, 7.0, 11.0]])
    value = metrics.logit_diff(logits, targets([[3, 1], [2, -1]], [[0, -1], [3, 0]]))
    assert value.tolist() == [5.0 - 1.0, 7.0 - 7.0]


def test_prob_diff_is_the_difference_of_sums():
    value = metrics.prob_diff(PROBS.log(), targets([[3, 2], [1, -1]], [[0, 1], [0, -1]]))
    assert value.tolist() == pytest.approx([0.7 - 0.3, 0.1 - 0.7])


def test_kl_is_the_divergence_from_the_clean_run():
    uniform = torch.full((2, 4), 0.25, dtype=torch.float64)
    value = metrics.kl(uniform.log(), targets([[0], [0]], []))
    expected = [math.log(4) + sum(p * math.log(p) for p in row) for row in PROBS.tolist()]
    assert value.tolist() == pytest.approx(expected)
    assert metrics.kl(PROBS.log() + 3, targets([[0], [0]], [])).tolist() == pytest.approx([0, 0])


def test_cross_entropy_is_of_all_the_right_answers_together():
    value = metrics.cross_entropy(PROBS.log(), targets([[3, 2], [1, -1]], []))
    assert value.tolist() == pytest.approx([-math.log(0.7), -math.log(0.1)])


@pytest.mark.parametrize(
    ("answer", "wrong", "expected"),
    [
        ([[3], [1]], [[2], [0]], [1.0, 0.0]),
        ([[0, 2], [1, -1]], [[1, -1], [2, 3]], [1.0, 0.0]),  # a tie is no victory
        ([[3], [1]], [], [1.0, 0.0]),  # nothing wrong is named: against all the others
        ([[2], [0]], [], [0.0, 1.0]),
        ([[2], [0]], [[1], [-1]], [1.0, 1.0]),
    ],
)
def test_accuracy_is_whether_the_best_right_answer_wins(answer, wrong, expected):
    assert metrics.accuracy(PROBS.log(), targets(answer, wrong)).tolist() == expected


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_finite_differences(name):
    logits = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    given_targets = targets([[3, 1], [2, -1]], [[0, -1], [3, 0]])
    assert torch.autograd.gradcheck(lambda x: metrics.get(name)(x, given_targets), logits)


def test_accuracy_has_no_gradient():
    logits = PROBS.log().requires_grad_()
    assert not metrics.accuracy(logits, targets([[3], [1]], [[2], [0]])).requires_grad


@pytest.mark.parametrize("name", metrics.names())
@given(st.data())
@settings(deadline=None, max_examples=25)
def test_examples_do_not_see_each_other_nor_fillers(name, data):
    size = data.draw(st.integers(1, 4))
    logits, clean = (torch.randn(size, 7, dtype=torch.float64) for _ in range(2))
    answer = torch.randint(0, 3, (size, 2))
    wrong = torch.randint(3, 7, (size, 2))
    filled = torch.cat([torch.full((size, 1), -1), answer], dim=1)
    metric = metrics.get(name)
    together = metric(logits, Targets(filled, wrong, clean))
    for i in range(size):
        alone = Targets(answer[[i]], wrong[[i]], clean[[i]])
        assert metric(logits[[i]], alone).item() == pytest.approx(together[i].item(), abs=1e-12)


@pytest.mark.parametrize("name", metrics.names())
@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_what_is_narrow_is_widened(name, dtype, result):
    logits = PROBS.log().to(dtype)
    value = metrics.get(name)(logits, targets([[3], [1]], [[2], [0]], PROBS.to(dtype)))
    assert value.dtype == result
    assert value.shape == (2,)


@pytest.mark.parametrize("name", ["logit_diff", "prob_diff"])
def test_a_difference_needs_wrong_answers(name):
    for wrong, row in (([], 0), ([[1], [-1]], 1)):
        with pytest.raises(
            MetricError, match=f"{name} needs a wrong answer, and example {row} .* cross_entropy"
        ):
            metrics.get(name)(PROBS.log(), targets([[3], [2]], wrong))


def test_metrics_by_name():
    assert metrics.names() == ("logit_diff", "prob_diff", "kl", "cross_entropy", "accuracy")
    assert metrics.get("kl") is metrics.kl
    with pytest.raises(UnknownName, match="unknown metric 'logit-diff': did you mean 'logit_diff'"):
        metrics.get("logit-diff")


def test_names_of_metrics():
    class Custom:
        def __call__(self, logits, targets):
            return logits[:, 0]

    assert metrics.metric_name(metrics.prob_diff) == "prob_diff"
    assert metrics.metric_name(functools.partial(metrics.kl)) == "kl"
    assert metrics.metric_name(Custom()) == "Custom"
