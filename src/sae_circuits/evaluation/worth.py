"""Whether a task is worth explaining: does the model do it, and does the corruption undo it?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.ablation.batches import default_batch_size
from sae_circuits.cache.run import run
from sae_circuits.errors import MetricError, NumericalError, OptionError, WeakTask
from sae_circuits.metrics import Metric, Targets, accuracy, get, logit_diff, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.progress import track
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task

SHARE = 0.1  # a gap below this share of the larger side is small
ERRORS = 2.0  # so is one below so many standard errors


@dataclass(frozen=True, slots=True, eq=False)
class Worth:
    """What a model makes of a task's clean and corrupt prompts.

    Args:
        metric: its name.
        clean, corrupt: the metric of each example, in the metric's unit.
        clean_right, corrupt_right: whether the best right answer beats every wrong one.
        problems: why the task is hardly worth explaining; none where it is.
    """

    metric: str
    clean: Float[Tensor, " n"]
    corrupt: Float[Tensor, " n"]
    clean_right: Bool[Tensor, " n"]
    corrupt_right: Bool[Tensor, " n"]
    problems: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """How much larger the metric is on clean prompts, in the mean."""
        return float((self.clean - self.corrupt).mean())

    @property
    def gap_error(self) -> float:
        """The standard error of the gap; infinite for a single example."""
        n = len(self.clean)
        return float((self.clean - self.corrupt).std() / n**0.5) if n > 1 else float("inf")

    @property
    def accuracy(self) -> float:
        """The share of clean prompts with a right answer."""
        return float(self.clean_right.double().mean())

    @property
    def corrupt_accuracy(self) -> float:
        """The share of corrupt prompts after which the clean prompt's answer still wins."""
        return float(self.corrupt_right.double().mean())

    def __repr__(self) -> str:
        clean, corrupt = float(self.clean.mean()), float(self.corrupt.mean())
        return (
            f"Worth({self.metric} {clean:.3g} on clean and {corrupt:.3g} on corrupt prompts, "
            f"accuracy {self.accuracy:.0%} and {self.corrupt_accuracy:.0%})"
        )


def check_task(
    model: Any,
    task: Task,
    metric: str | Metric = logit_diff,
    *,
    least_accuracy: float = 0.75,
    batch_size: int | None = None,
    memory: Memory | None = None,
) -> Worth:
    """Run a model on a task, and warn where there is little to explain.

    That is where the metric's mean gap between clean and corrupt prompts is below two of its
    standard errors or a tenth of the larger side, or where the model is right on too few clean
    prompts.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        task: the prompts.
        metric: one number per example from the logits, or a name.
        least_accuracy: the share of clean prompts that the model has to get right.
        batch_size: examples at a time; by default as many as `memory` allows.
        memory: to stay under beside the model's weights, as in `attribute`.

    Raises:
        OptionError: a share outside 0 to 1.
        MetricError, NumericalError: a metric that is not one finite number per example.

    Warns:
        WeakTask: gives the figures and says what to do.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> worth = sc.tasks.ioi(model, n=16).check(model)
        >>> worth.accuracy, worth.gap > 4, worth.problems
        (1.0, True, ())
    """
    if not 0 <= least_accuracy <= 1:
        raise OptionError(f"least_accuracy={least_accuracy!r} is no share: take 0 to 1")
    adapter, metric = Adapter.of(model), get(metric)
    task.check_fits(vocabulary=adapter.architecture.d_vocab)
    size = batch_size or default_batch_size(adapter, task, memory=memory)
    parts = [
        _measured(adapter, batch, metric)
        for batch in track(
            task.batches(size), total=-(-len(task) // size), description="checking the task"
        )
    ]
    clean, corrupt, clean_right, corrupt_right = (
        torch.cat(column) for column in zip(*parts, strict=True)
    )
    name = metric_name(metric)
    found = Worth(name, clean, corrupt, clean_right, corrupt_right)
    problems = tuple(_problems(found, least_accuracy))
    if problems:
        warnings.warn(f"task {task.name!r}: {'; '.join(problems)}", WeakTask, stacklevel=3)
    return Worth(name, clean, corrupt, clean_right, corrupt_right, problems)


def _measured(adapter: Adapter, task: Task, metric: Metric) -> tuple[Tensor, ...]:
    clean_logits, corrupt_logits = (
        run(adapter, tokens, task.position).logits for tokens in (task.clean, task.corrupt)
    )
    targets = Targets.of(task, clean_logits)
    values, right = [], []
    for logits in (clean_logits, corrupt_logits):
        found = metric(logits, targets)
        if not isinstance(found, Tensor) or found.shape != (len(task),):
            raise MetricError(
                f"metric {metric_name(metric)!r} returned {getattr(found, 'shape', found)}: one "
                f"number per example, ({len(task)},)"
            )
        if not bool(found.isfinite().all()):
            raise NumericalError(
                f"metric {metric_name(metric)!r} is not finite on every example: mend the metric, "
                "or leave those examples out"
            )
        values.append(found.detach().double().cpu())
        right.append(accuracy(logits, targets).bool().cpu())
    return (*values, *right)


def _problems(worth: Worth, least_accuracy: float) -> list[str]:
    clean, corrupt = float(worth.clean.mean()), float(worth.corrupt.mean())
    found = []
    small = max(SHARE * max(abs(clean), abs(corrupt)), ERRORS * worth.gap_error)
    if abs(worth.gap) < small or clean == corrupt:
        found.append(
            f"its mean {worth.metric} is {clean:.3g} on clean and {corrupt:.3g} on corrupt "
            f"prompts, a gap of {worth.gap:.2g} +- {worth.gap_error:.2g} that is too small to "
            "explain: take corrupt prompts that change the answer (sae_circuits.tasks.corrupt), "
            "more examples, or another metric"
        )
    if worth.accuracy < least_accuracy:
        found.append(
            f"the model is right on {worth.accuracy:.0%} of the clean prompts, and less than "
            f"{least_accuracy:.0%} is little to explain: keep those that it gets right, "
            "task[task.check(model).clean_right], or take a task that it does"
        )
    return found
