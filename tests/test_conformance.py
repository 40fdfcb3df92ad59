"""Every method against the public suite, and the suite against methods that are wrong."""

from __future__ import annotations

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

OPTIONS = {"eap-ig": {"steps": 2}, "eap-ig-activations": {"steps": 1}, "mask-ig": {"steps": 2}}


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
    check(Case(method, OPTIONS.get(method, {}), *models, random_task()))


@pytest.mark.parametrize("method", ["gim", "mask-ig", "information-flow"])
def test_a_method_fails_the_checks_that_it_says_are_not_for_it(method, models):
    left = set(CHECKS) - set(checks_for(method))
    assert left
    for check in left:
        with pytest.raises(AssertionError):
            check(Case(method, OPTIONS.get(method, {}), *models, random_task()))


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
