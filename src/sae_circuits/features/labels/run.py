"""`label`: several strategies over all features, and the test of what they propose."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sae_circuits.errors import LabelsLeftOut, OptionError, unknown
from sae_circuits.features.asked import feature_ids
from sae_circuits.features.columns import Activity
from sae_circuits.features.labels.job import LabelsJob
from sae_circuits.features.labels.kept import LabelFolder, Made
from sae_circuits.features.labels.label import Label
from sae_circuits.features.labels.strategies import STRATEGIES
from sae_circuits.features.labels.strategy import LeftOut, Strategy
from sae_circuits.shards import (
    Means,
    Partial,
    Shard,
    ShardFolder,
    Workers,
    keep_shards,
    run_shards,
)

DEFAULT = ("tokens", "ngrams", "patterns")
NAMED = 20  # features that a warning names


def strategies() -> tuple[str, ...]:
    """The names of the strategies that `label` knows."""
    return tuple(STRATEGIES)


def label(
    activity: Activity,
    strategies: str | Strategy | Sequence[str | Strategy] = DEFAULT,
    features: Iterable[int] | None = None,
    seed: int = 0,
    *,
    folder: str | Path | None = None,
    workers: Workers | None = None,
    **options: Mapping[str, Any],
) -> list[Label]:
    """Labels for features, each tested on prompts that it was not made from.

    Half of the prompts are for making labels, and the other half for testing them; which prompt is
    in which hangs on the corpus alone. Work is in proportion to the activations that are not 0 and
    to the tokens that labels point at.

    Args:
        activity: a corpus and features' activations on it.
        strategies: names of `strategies()`, or a `Strategy` of one's own; by default tokens,
            n-grams and patterns.
        features: ids; by default all.
        seed: of strategies that draw.
        folder: where labels are kept as they are made, and from which the same call goes on: what
            is done is not made, nor asked for, again.
        workers: what labels the features (see `sae_circuits.workers`); this process by default.
        options: of each strategy, by its name, such as `clusters={"embeddings": W_E}`.

    Returns:
        Labels by feature; of each feature those to show first, and of these the untested ones, by
        a person or from a file, and then the best score. A feature of which a strategy has nothing
        to say has no label of that strategy. They hang neither on workers nor on stops, but for
        their times, which are not compared, and for which features are left out once a budget is
        spent: workers have equal shares of it.

    Raises:
        UnknownName: no such strategy or feature, or an option that a strategy does not have.
        OptionError: a value that an option does not take, or options of a strategy that was not
            asked for.
        CorpusError: fewer than two prompts.
        ShardError: some features failed, on workers or with a folder, which keeps the others.
        OutputError: a folder of other labels, or that cannot be written, or a full disk.
    """
    job = labels_job(activity, strategies, features, seed, options)
    return list(labelled(job, Means(workers, folder)).labels)


def labels_job(
    activity: Activity,
    strategies: str | Strategy | Sequence[str | Strategy],
    features: Iterable[int] | None,
    seed: int,
    options: Mapping[str, Mapping[str, Any]],
) -> LabelsJob:
    """What `label` does, with all names known and all options looked at.

    Raises:
        UnknownName, OptionError, CorpusError: see `label`.
    """
    chosen = _chosen(strategies)
    wanted = np.unique(
        feature_ids(None if features is None else list(features), activity.n_features)
    )
    for name in options:
        if name not in chosen:
            raise OptionError(f"options of {name!r}, which is not among {', '.join(chosen)}")
    job = LabelsJob(activity, wanted, chosen, options, seed)
    return replace(job, ready=job.set_up())


def _chosen(strategies: str | Strategy | Sequence[str | Strategy]) -> dict[str, Strategy]:
    names = [strategies] if isinstance(strategies, str | Strategy) else list(strategies)
    found: dict[str, Strategy] = {}
    for name in names:
        if not isinstance(name, Strategy) and name not in STRATEGIES:
            raise unknown("strategy", name, STRATEGIES)
        strategy = name if isinstance(name, Strategy) else STRATEGIES[name]
        found[strategy.name] = strategy
    if not found:
        raise OptionError(f"no strategy: give one or more of {', '.join(STRATEGIES)}")
    return found


@dataclass(frozen=True)
class Labelled:
    """What came of all shards.

    Args:
        labels: of all features.
        whole: whether all that was asked was answered; else the same call asks for the rest.
    """

    labels: tuple[Label, ...]
    whole: bool


def labelled(job: LabelsJob, means: Means) -> Labelled:
    """Run a job, and warn of the features that nobody answered for.

    Raises:
        ShardError, OutputError: see `label`.
    """
    shards = job.shards()
    made = [Made.of(partial) for partial in _partials(job, shards, means)]
    left = [one for part in made for one in part.left]
    for said in _told(left):
        warnings.warn(LabelsLeftOut(said), stacklevel=3)
    labels = tuple(one for part in made for one in part.labels)
    return Labelled(labels, all(part.whole for part in made))


def _partials(job: LabelsJob, shards: Sequence[Shard], means: Means) -> Iterator[Partial]:
    n = 1 if means.workers is None else max(1, min(means.workers.n, len(shards)))
    if n > 1:
        job = replace(job, workers=n, ready=None)
    if means.folder is None:
        return run_shards(job, shards, means)
    folder = ShardFolder.open(means.folder, job, shards)
    kept = LabelFolder(folder)
    if used := kept.used():
        job = replace(job, used=used, ready=None)
    keep_shards(job, shards, kept, means.workers)
    return map(folder.read, shards)


def _told(left: Sequence[LeftOut]) -> Iterator[str]:
    """A line for each reason, with the features that have it."""
    reasons = dict[str, list[int]]()
    for one in left:
        reasons.setdefault(one.reason, []).append(one.feature)
    for reason, features in reasons.items():
        more = f" and {len(features) - NAMED:,} more" if len(features) > NAMED else ""
        ids = ", ".join(map(str, features[:NAMED]))
        plural = "s" if len(features) > 1 else ""
        yield f"no label from a language model for feature{plural} {ids}{more}: {reason}"
