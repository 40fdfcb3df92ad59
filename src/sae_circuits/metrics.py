"""Metrics: one number per example from the logits at the answer's position.

A metric is any callable `(logits, targets) -> values` with logits `[batch, vocab]`, a `Targets`,
and values `[batch]`. It must be differentiable to attribute with it; to evaluate, any will do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import MetricError, in_words, no_attribute, unknown
from sae_circuits.precision import wide
from sae_circuits.tasks.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What a metric may compare logits with.

    Args:
        answer, wrong: token ids of right and wrong answers; -1 stands for none.
        clean_logits: what the whole model gives on the clean prompts.
    """

    answer: Int64[Tensor, "batch k"]
    wrong: Int64[Tensor, "batch j"]
    clean_logits: Float[Tensor, "batch vocab"]

    @classmethod
    def of(cls, task: Task, clean_logits: Float[Tensor, "batch vocab"]) -> Targets:
        """Take a task's answers to where the logits are."""
        device = clean_logits.device
        return cls(task.answer.to(device), task.wrong.to(device), clean_logits)

    def repeat(self, copies: int) -> Targets:
        """The same examples several times over, as whole copies of the batch."""
        return Targets(*(x.repeat(copies, 1) for x in (self.answer, self.wrong, self.clean_logits)))


@runtime_checkable
class Metric(Protocol):
    """One number per example, larger where the model does better or worse, as the metric says."""

    def __call__(
        self, logits: Float[Tensor, "batch vocab"], targets: Targets, /
    ) -> Float[Tensor, " batch"]:
        """Return a value for each example."""
        ...


def logit_diff(logits: Float[Tensor, "batch vocab"], targets: Targets) -> Float[Tensor, " batch"]:
    """Mean logit of the right answers minus mean logit of the wrong ones.

    Raises:
        MetricError: an example has no wrong answer.
    """
    logits = wide(logits)
    return _mean(logits, targets.answer) - _mean(logits, _given(targets.wrong, "logit_diff"))


def prob_diff(logits: Float[Tensor, "batch vocab"], targets: Targets) -> Float[Tensor, " batch"]:
    """Probability of all right answers minus probability of all wrong ones; from -1 to 1.

    Raises:
        MetricError: an example has no wrong answer.
    """
    probs = wide(logits).softmax(-1)
    return _sum(probs, targets.answer) - _sum(probs, _given(targets.wrong, "prob_diff"))


def kl(logits: Float[Tensor, "batch vocab"], targets: Targets) -> Float[Tensor, " batch"]:
    """KL divergence of the run from the clean run, in nats; zero where they agree.

    sum_v p_clean(v) (log p_clean(v) - log p_run(v))
    """
    run = wide(logits).log_softmax(-1)
    clean = wide(targets.clean_logits).log_softmax(-1)
    return (clean.exp() * (clean - run)).sum(-1)


def cross_entropy(
    logits: Float[Tensor, "batch vocab"], targets: Targets
) -> Float[Tensor, " batch"]:
    """Minus the log probability, in nats, that some right answer comes."""
    log_probs = wide(logits).log_softmax(-1)
    return -_at(log_probs, targets.answer, fill=-torch.inf).logsumexp(-1)


def accuracy(logits: Float[Tensor, "batch vocab"], targets: Targets) -> Float[Tensor, " batch"]:
    """1 where the best right answer beats every wrong one, else 0; not differentiable.

    Where there are no wrong answers, the right ones have to beat the whole vocabulary.
    """
    best = _at(logits, targets.answer, fill=-torch.inf).amax(-1)
    rivals = logits.scatter(-1, targets.answer.clamp(min=0), -torch.inf)
    if targets.wrong.shape[1]:
        named = _at(logits, targets.wrong, fill=-torch.inf).amax(-1)
        rival = torch.where((targets.wrong >= 0).any(-1), named, rivals.amax(-1))
    else:
        rival = rivals.amax(-1)
    return (best > rival).to(wide(logits).dtype)


_BUILT_IN: dict[str, Callable[..., Tensor]] = {
    metric.__name__: metric for metric in (logit_diff, prob_diff, kl, cross_entropy, accuracy)
}


# What other libraries call them, to be suggested.
_ELSEWHERE = {
    "logit-difference": "logit_diff",
    "ld": "logit_diff",
    "prob-difference": "prob_diff",
    "probability-difference": "prob_diff",
    "kl-div": "kl",
    "kl-divergence": "kl",
    "ce": "cross_entropy",
    "loss": "cross_entropy",
    "nll": "cross_entropy",
}


def names() -> tuple[str, ...]:
    """Return the names of the built-in metrics.

    >>> names()
    ('logit_diff', 'prob_diff', 'kl', 'cross_entropy', 'accuracy')
    """
    return tuple(_BUILT_IN)


def get(metric: str | Metric) -> Metric:
    """Return a built-in metric by name, or the metric that is passed.

    Raises:
        UnknownName: there is none of this name; the message gives the nearest ones.
        MetricError: what is passed cannot be called with logits and targets.

    >>> get("kl").__name__
    'kl'
    """
    if not isinstance(metric, str):
        return _required(metric)
    if metric not in _BUILT_IN:
        raise unknown("metric", metric, _BUILT_IN, _ELSEWHERE)
    return _BUILT_IN[metric]


def _required(metric: Metric) -> Metric:
    if not callable(metric):
        raise MetricError(
            f"metric is {in_words(metric)}: give one of {', '.join(map(repr, _BUILT_IN))}, or a "
            "function of (logits, targets)"
        )
    try:
        signature = inspect.signature(metric)
    except (TypeError, ValueError):  # of what is not written in Python
        return metric
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise MetricError(
            f"metric {metric_name(metric)!r} takes {signature}: a metric is called with (logits, "
            "targets), logits [batch, vocab] and the answers, and gives one number per example"
        ) from error
    return metric


def metric_name(metric: Metric) -> str:
    """Return a metric's name: its function's, its class's, or for a partial the inner function's.

    >>> metric_name(logit_diff)
    'logit_diff'
    """
    metric = getattr(metric, "func", metric)  # functools.partial
    return getattr(metric, "__name__", type(metric).__name__)


# -- reading logits --------------------------------------------------------------------------------


def _at(
    values: Float[Tensor, "batch vocab"], ids: Int64[Tensor, "batch k"], fill: float
) -> Float[Tensor, "batch k"]:
    """Return the values at the ids, and a filler where there is none."""
    return values.gather(-1, ids.clamp(min=0)).masked_fill(ids < 0, fill)


def _sum(
    values: Float[Tensor, "batch vocab"], ids: Int64[Tensor, "batch k"]
) -> Float[Tensor, " batch"]:
    return _at(values, ids, fill=0.0).sum(-1)


def _mean(
    values: Float[Tensor, "batch vocab"], ids: Int64[Tensor, "batch k"]
) -> Float[Tensor, " batch"]:
    return _sum(values, ids) / (ids >= 0).sum(-1)


def _given(wrong: Int64[Tensor, "batch j"], metric: str) -> Int64[Tensor, "batch j"]:
    missing = (~(wrong >= 0).any(-1)).nonzero().flatten()
    if missing.numel():
        raise MetricError(
            f"{metric} needs a wrong answer, and example {int(missing[0])} of the batch has none: "
            "give the task wrong answers, or use cross_entropy or kl"
        )
    return wrong


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, _BUILT_IN)
