"""How a result was made: one way to say it for all verbs that run a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sae_circuits._version import __version__
from sae_circuits.graph import Provenance
from sae_circuits.models.adapter import Adapter
from sae_circuits.tasks import Task


def provenance_of(
    adapter: Adapter,
    task: Task | None,
    *,
    method: str,
    metric: str,
    intervention: str,
    seed: int | None = None,
    options: Mapping[str, Any],
) -> Provenance:
    """What this version makes of a model, by a method, on a task or on one prompt without one."""
    return Provenance(
        method=method,
        model=adapter.architecture.model,
        task=task.name if task else "",
        metric=metric,
        intervention=intervention,
        n_examples=len(task) if task else 1,
        seed=seed,
        version=__version__,
        task_id=task.fingerprint if task else "",
        model_id=adapter.fingerprint,
        options=options,
    )
