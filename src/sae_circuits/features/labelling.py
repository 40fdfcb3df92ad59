"""`label_store`: labels of a store's features, kept beside it until they are in it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_circuits.features.activations import Activations
from sae_circuits.features.labels import Label, Strategy
from sae_circuits.features.labels.run import labelled, labels_job
from sae_circuits.features.store.database import Change, Database
from sae_circuits.features.store.tables import label_rows
from sae_circuits.shards import Means, Workers, fingerprint

LABELS = "labels"  # what is done of them, a folder for each job, until all is
WHERE = "strategy IN (SELECT unnest(?)) AND (? IS NULL OR feature IN (SELECT unnest(?)))"


def label_store(
    folder: Path | None,
    database: Database,
    activations: Activations,
    strategies: Sequence[str | Strategy],
    features: Sequence[int] | None,
    seed: int,
    options: Mapping[str, Mapping[str, Any]],
    workers: Workers | None = None,
) -> tuple[Label, ...]:
    """Label features, and put the labels into a store.

    Each job has a folder of its own, so that one that was stopped is not in the way of another.

    Args:
        folder: of the store; None where it will be gone if this fails.

    Raises:
        UnknownName, OptionError, CorpusError: see `label`.
        ShardError: some features failed, on workers or where the folder stays.
        OutputError: the store cannot be written, as while somebody else has it open.
    """
    job = labels_job(activations, strategies, features, seed, options)
    inside = None if folder is None else folder / LABELS / fingerprint(job.said)[:16]
    found = labelled(job, Means(workers, inside))
    ids = None if features is None else list(features)
    said = [sorted(job.strategies), ids, ids]
    database.change(Change("labels", label_rows(found.labels), WHERE, said))
    if inside is not None and found.whole:
        shutil.rmtree(inside, ignore_errors=True)
        with contextlib.suppress(OSError):  # another job's is still in it
            inside.parent.rmdir()
    return found.labels
