"""The metric on many circuits, example by example: what every measure is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation import Intervening, intervention_name, run_circuits
from sae_circuits.errors import MetricError, NumericalError
from sae_circuits.evaluation.measures import recovered, recovered_each
from sae_circuits.graph import Circuit, Provenance, Scores, SpanCircuit, SpanScores
from sae_circuits.metrics import Metric, Targets, accuracy, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.provenance import provenance_of
from sae_circuits.tasks import Task

AnyCircuit = Circuit | SpanCircuit


def measure(
    model: Any, circuits: Sequence[AnyCircuit], task: Task, metric: Metric, **ran: Any
) -> Float[Tensor, "circuit n 4"]:
    """The metric and the accuracy of each circuit, then those of the whole model, per example.

    Raises:
        MetricError: not one number per example.
        NumericalError: a metric that is not finite.
    """
    found = run_circuits(model, circuits, task, Reading(metric), **ran)
    bad = (~found.isfinite()).any(2).nonzero()
    if len(bad):
        which, example = bad[0].tolist()
        raise NumericalError(
            f"metric {metric_name(metric)!r} is not finite for example {example} under a circuit "
            f"of {len(circuits[which]):,} edges: mend the metric, or leave that example out"
        )
    return found


@dataclass(frozen=True)
class Reading:
    """What is read of a circuit's logits: the metric and the accuracy, of it and of the model."""

    metric: Metric

    def __call__(
        self, logits: Float[Tensor, "batch vocab"], targets: Targets
    ) -> Float[Tensor, "batch 4"]:
        """Metric and accuracy under the circuit, then those of the whole model."""
        clean = targets.clean_logits
        columns = [values_of(self.metric, logits, targets), accuracy(logits, targets)]
        columns += [values_of(self.metric, clean, targets), accuracy(clean, targets)]
        return torch.stack([column.double() for column in columns], 1)


def values_of(metric: Metric, logits: Tensor, targets: Targets) -> Float[Tensor, "batch"]:
    """What a metric gives.

    Raises:
        MetricError: not one number per example.
    """
    values = metric(logits, targets)
    if not isinstance(values, Tensor) or values.shape != (len(logits),):
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise MetricError(
            f"metric {metric_name(metric)!r} returned {got}: one number per example, "
            f"({len(logits)},)"
        )
    return values.detach()


def require_gap(clean: Tensor, corrupt: Tensor, metric: Metric) -> None:
    """Raise a `MetricError` where faithfulness would divide by zero."""
    try:
        recovered(0.0, clean=float(clean.mean()), corrupt=float(corrupt.mean()))
    except MetricError as error:
        same = bool((recovered_each(clean, clean, corrupt).isnan()).all())
        where = f"on all {len(clean):,} examples" if same else "in the mean, though not on each"
        raise MetricError(f"{metric_name(metric)!r} is constant {where}: {error}") from None


def provenance(
    model: Any,
    scores: Scores | SpanScores[Scores] | None,
    task: Task,
    metric: Metric,
    intervention: Intervening,
    seed: int,
    **options: Any,
) -> Provenance:
    """What was evaluated and how; the method and its options are those of the scores."""
    of = scores.provenance if scores else Provenance()
    return provenance_of(
        Adapter.of(model),
        task,
        method=of.method,
        metric=metric_name(metric),
        intervention=intervention_name(intervention),
        seed=seed,
        options={**of.options, **options},
    )
