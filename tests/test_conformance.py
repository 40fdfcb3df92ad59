"""Every method against the public suite, and the suite against methods that are wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from sae_circuits.attribution import Method, along_embedding, methods
from sae_circuits.testing import (
    CHECKS,
    Case,
    check_method,
    checks_for,
    random_model,
    random_task,
)
from sae_circuits.testing.conformance import (
    does_not_depend_on_order,
    does_not_depend_on_padding,
    equals_the_closed_form_of_a_linear_model,
    finds_the_induction_circuit,
)

FEW_STEPS = {
    "eap-ig": {"steps": 2},
    "eap-ig-activations": {"steps": 1},
    "mask-ig": {"steps": 2},
    "edge-pruning": {"steps": 3},
    "ugs": {"steps": 3},
}


@pytest.fixture(scope="module")
def models():
    return random_model(), random_model(linear=True)


@pytest.mark.parametrize(
    ("method", "check"),
    [
        pytest.param(method, check, id=f"{method}-{check.__name__}")
        for method in sorted(set(methods()) - {"random"})
        for check in checks_for(method)
    ],
)
def test_methods_conform(method, check, models):
    # What a method finds it finds with its own number of steps; what has to hold holds with few.
    options = {} if check is finds_the_induction_circuit else FEW_STEPS.get(method, {})
    check(Case(method, options, *models, random_task()))


@pytest.mark.parametrize("method", ["gim", "mask-ig", "information-flow"])
def test_a_method_fails_the_checks_that_it_says_are_not_for_it(method, models):
    left = set(CHECKS) - set(checks_for(method))
    assert left
    for check in left:
        with pytest.raises(AssertionError):
            check(Case(method, FEW_STEPS.get(method, {}), *models, random_task()))


def wrong(change):
    """EAP with a fault."""
    rule = along_embedding(lambda: [(1.0, 1.0)])
    return Method("wrong", lambda problem: change(problem, rule(problem)))


FAULTS = {
    "the sign is turned": lambda problem, scores: -scores,
    "the mean is taken over batches": lambda problem, scores: scores / len(problem.batch),
    "what is constant is added": lambda problem, scores: scores + 1e-6,
    "padding counts": lambda problem, scores: scores * problem.batch.clean.shape[1] / 7,
    "heads are told apart by number": lambda problem, scores: (
        scores * torch.arange(1.0, 1.0 + scores.shape[0])[:, None]
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_method_is_caught(fault):
    with pytest.raises(AssertionError):
        check_method(wrong(FAULTS[fault]))


def test_a_leaked_hook_and_a_leaked_flag_are_caught():
    def leak(problem, scores):
        problem.adapter.model.hook_embed.register_forward_hook(lambda *_: None)
        return scores

    def turn(problem, scores):
        next(problem.adapter.model.parameters()).requires_grad_(False)
        return scores

    for fault in (leak, turn):
        with pytest.raises(AssertionError, match="changed"):
            check_method(wrong(fault))


def test_checks_on_known_circuits_catch_what_they_are_for(models):
    def first_edge(problem, scores):
        first = torch.zeros_like(scores)
        first[0, 0] = problem.change["input"].abs().sum()  # of a query, of no effect here
        return scores + first

    def nearly(problem, scores):
        return scores * (1 + 1e-6)

    def case(change):
        return Case(wrong(change), {}, *models, random_task())

    with pytest.raises(AssertionError, match=r"AUROC 0\.9"):
        finds_the_induction_circuit(case(first_edge))
    with pytest.raises(AssertionError, match="not close"):
        equals_the_closed_form_of_a_linear_model(case(nearly))
    finds_the_induction_circuit(case(nearly))


def test_what_a_method_declares_says_which_checks_apply():
    @dataclass(frozen=True)
    class Declared(Method):
        estimates_effect: bool = True
        in_metric_unit: bool = True
        search: object = None

    rule = along_embedding(lambda: [(1.0, 1.0)])
    effect = Declared("thrice", lambda problem: 3 * rule(problem))
    assert checks_for(effect) == CHECKS
    with pytest.raises(AssertionError, match="not close"):
        check_method(effect)
    other = replace(effect, estimates_effect=False)
    assert finds_the_induction_circuit in checks_for(other)
    check_method(other)
    own_unit = replace(other, in_metric_unit=False)
    assert set(checks_for(own_unit)) < set(checks_for(other))
    padding = replace(own_unit, score_batch=lambda p: rule(p) * p.batch.clean.shape[1])
    with pytest.raises(AssertionError, match="not close"):
        check_method(padding)
    search = replace(effect, search=print)
    assert {does_not_depend_on_padding, finds_the_induction_circuit} < set(checks_for(search))
    assert does_not_depend_on_order not in checks_for(search)
