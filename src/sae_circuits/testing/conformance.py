"""What a method of attribution has to satisfy, check by check."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sae_circuits.attribution import Method, attribute
from sae_circuits.attribution.run import find_method
from sae_circuits.evaluation import against
from sae_circuits.graph import Scores, TensorGraph
from sae_circuits.metrics import Targets, logit_diff
from sae_circuits.models.small import random_model
from sae_circuits.tasks import Task
from sae_circuits.testing.inputs import padded, random_task
from sae_circuits.testing.registry import truth


@dataclass(frozen=True)
class Case:
    """A method with its options, and something to run it on."""

    method: str | Method
    options: dict[str, Any]
    model: Any
    linear: Any
    task: Task

    def scores(self, task: Task | None = None, model: Any = None, **changed: Any) -> Scores:
        """The method's scores, of another task or model where given."""
        model = self.model if model is None else model
        graph = TensorGraph.from_model(model)
        task = self.task if task is None else task
        return attribute(model, graph, task, method=self.method, **{**self.options, **changed})


def check_method(method: str | Method, **options: Any) -> None:
    """Run every check that applies to a method, on small models in float64.

    Raises:
        AssertionError: naming the check and the largest difference.
    """
    case = Case(method, options, random_model(), random_model(linear=True), random_task())
    for check in checks_for(method):
        check(case)


def checks_for(method: str | Method) -> tuple[Check, ...]:
    """The checks that apply to a method, by what it declares of itself.

    >>> len(checks_for("eap")) == len(CHECKS)
    True
    """
    found = find_method(method)
    if found.search is not None:
        return FOR_SEARCHES
    return tuple(check for check in CHECKS if getattr(found, ASKS.get(check, ""), True))


# -- the checks ----------------------------------------------------------------------------------


def equals_exact_patching_on_a_linear_model(case: Case) -> None:
    """On a linear model the estimate is no estimate."""
    exact = Case("exact", {}, case.linear, case.linear, case.task).scores()
    _same(case.scores(model=case.linear).values, exact.values, 1e-7)


def equals_the_closed_form_of_a_linear_model(case: Case) -> None:
    """On another one, with strong and weak edges, the effects are products of weights."""
    for eps in (0.0, 0.3):
        known = truth("linear", eps=eps)
        assert known.effects is not None
        _same(known.scores(case.method, **case.options).values, known.effects.values, 1e-9)


def finds_the_induction_circuit(case: Case) -> None:
    """Where nothing else leaks into the output, every true edge outranks every other one."""
    for known in (truth("induction"), truth("induction-mlp")):
        found = against(known.scores(case.method, **case.options), known.circuit).auroc
        assert found == 1, f"AUROC {found:.3f} on {known!r}"


def is_zero_when_clean_equals_corrupt(case: Case) -> None:
    """Nothing changes, so nothing matters."""
    scores = case.scores(replace(case.task, corrupt=case.task.clean))
    _same(scores.values, torch.zeros_like(scores.values), 1e-12)


def does_not_depend_on_batching(case: Case) -> None:
    """Batches of 1, 2, 4 + 2 and 6 give the same means."""
    whole = case.scores(batch_size=6).values
    for size in (1, 2, 4):
        _same(case.scores(batch_size=size).values, whole, 1e-9)


def does_not_depend_on_order(case: Case) -> None:
    """Examples in any order give the same mean."""
    _same(case.scores(case.task[[3, 5, 0, 2, 4, 1]]).values, case.scores().values, 1e-9)


def does_not_depend_on_padding(case: Case) -> None:
    """Padding on the right or on the left, by any amount and of any token, is never seen."""
    task, expected = case.task, case.scores().values
    for left, right in ((0, 3), (2, 1)):
        _same(case.scores(padded(task, left, right)).values, expected, 1e-9)


def permuting_heads_permutes_scores(case: Case) -> None:
    """The order of heads within a layer means nothing."""
    model, order = copy.deepcopy(case.model), [2, 0, 3, 1]
    with torch.no_grad():
        for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V"):
            weight = getattr(model.blocks[0].attn, name)
            weight.copy_(weight[order].clone())
    before, after = case.scores().dense(), case.scores(model=model).dense()
    src = [0, *(1 + i for i in order), *range(5, len(before))]
    dest = [4 * port + i for port in range(3) for i in order]
    dest += range(12, before.shape[1])
    _same(after, before[src][:, dest], 1e-9)


def scales_with_the_metric(case: Case) -> None:
    """Twice the metric, twice the scores."""
    _same(case.scores(metric=_twice).values, 2 * case.scores().values, 1e-9)


def leaves_the_model_as_it_was(case: Case) -> None:
    """Hooks, flags, gradients and weights are as before, also when a run is broken off."""
    before = _state(case.model)
    case.scores()
    _unchanged(case.model, before)
    for error in (RuntimeError("stop"), KeyboardInterrupt()):
        broken = case.model.ln_final.register_forward_hook(_breaker(error))
        try:
            case.scores()
        except type(error):
            pass
        else:
            raise AssertionError("the error of a run did not reach the caller")
        finally:
            broken.remove()
        _unchanged(case.model, before)


Check = Callable[[Case], None]

CHECKS: tuple[Check, ...] = (
    leaves_the_model_as_it_was,  # first, before anything else has touched the model
    equals_exact_patching_on_a_linear_model,
    equals_the_closed_form_of_a_linear_model,
    finds_the_induction_circuit,
    is_zero_when_clean_equals_corrupt,
    does_not_depend_on_batching,
    does_not_depend_on_order,
    does_not_depend_on_padding,
    permuting_heads_permutes_scores,
    scales_with_the_metric,
)

ASKS: Mapping[Check, str] = MappingProxyType(
    {
        equals_exact_patching_on_a_linear_model: "estimates_effect",
        equals_the_closed_form_of_a_linear_model: "estimates_effect",
        finds_the_induction_circuit: "in_metric_unit",
        is_zero_when_clean_equals_corrupt: "in_metric_unit",
        scales_with_the_metric: "in_metric_unit",
    }
)
"""What a method has to say of itself for a check to apply; methods that do not say are checked."""

FOR_SEARCHES: tuple[Check, ...] = (
    leaves_the_model_as_it_was,
    finds_the_induction_circuit,
    does_not_depend_on_padding,
)
"""Those that apply to a search over a whole task, whose scores are no sums over examples."""


# -- what they are made of -----------------------------------------------------------------------


def _same(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def _twice(logits: Tensor, targets: Targets) -> Tensor:
    return 2 * logit_diff(logits, targets)


def _breaker(error: BaseException) -> Callable[..., None]:
    def see(*_: Any) -> None:
        raise error

    return see


def _state(model: Any) -> dict[str, Any]:
    """All that a call could have left behind on a model."""
    modules = dict(model.named_modules())
    return {
        "hooks": {
            name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for name, m in modules.items()
        },
        "asks": {name: p.requires_grad for name, p in model.named_parameters()},
        "grads": {name: p.grad for name, p in model.named_parameters()},
        "weights": {name: p.detach().clone() for name, p in model.named_parameters()},
        "flags": {k: v for k, v in vars(model.cfg).items() if isinstance(v, bool | int | str)},
        "training": model.training,
    }


def _unchanged(model: Any, before: dict[str, Any]) -> None:
    now = _state(model)
    for part in ("hooks", "asks", "flags", "training"):
        assert now[part] == before[part], f"{part} of the model changed"
    for name, weight in before["weights"].items():
        assert torch.equal(now["weights"][name], weight), f"{name} changed"
        assert now["grads"][name] is before["grads"][name], f"the gradient of {name} changed"
