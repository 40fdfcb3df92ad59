"""Labels as a job, whose shards are some of the features that are asked for.

A shard brings the activations of its features along, which are read when their turn comes: so
workers need neither the store nor its disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from sae_circuits.features.activations import Activations
from sae_circuits.features.columns import Activity, Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.labels.ready import TOGETHER, Ready
from sae_circuits.features.labels.strategy import Strategy
from sae_circuits.shards import Job, Partial, Shard, fingerprint, shards_of

Ids = Int64[np.ndarray, "feature"]


@dataclass(frozen=True, eq=False)
class Asked:
    """The features of a shard; where it is sent, their activations go with it.

    Args:
        features: their ids.
        activity: where their activations are read.
        sent: the activations, where they have come with it.
    """

    features: Ids
    activity: Activity | None
    sent: Columns | None = None

    def columns(self) -> Columns:
        """The activations."""
        if self.sent is not None:
            return self.sent
        assert self.activity is not None  # one of them is there
        return self.activity.columns(self.features)

    def __getstate__(self) -> dict[str, Any]:
        return {"features": self.features, "activity": None, "sent": self.columns()}


@dataclass(frozen=True, eq=False)
class _Tokens:
    """What a worker gets of an `Activity`."""

    corpus: Corpus
    counted: Bool[np.ndarray, "token"]
    n_features: int


@dataclass(frozen=True, eq=False)
class LabelsJob(Job):
    """Strategies on features, and the test of what they propose.

    Args:
        activity: a corpus and features' activations on it; in another process without these.
        features: ids, rising.
        strategies: by name.
        options: of each strategy, by its name.
        seed: of strategies that draw.
        workers: how many share what strategies may use.
        used: of that by strategy what went into features that are done.
        ready: the strategies at work, where they have been set up already.
    """

    activity: Any
    features: Ids
    strategies: Mapping[str, Strategy]
    options: Mapping[str, Mapping[str, Any]]
    seed: int
    workers: int = 1
    used: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ready: Ready | None = None

    name = "labels"
    unit = "feature"
    model = None

    @property
    def said(self) -> Mapping[str, Any]:
        """The activations, features, strategies and options; not by what means it is asked."""
        return self._decided

    @cached_property
    def _decided(self) -> Mapping[str, Any]:
        activity, corpus = self.activity, self.activity.corpus
        return {
            "corpus": [corpus.name, corpus.fingerprint],
            "counted": fingerprint(activity.counted),
            "activations": _identity(activity, self.features),
            "features": [len(self.features), fingerprint(self.features)],
            "seed": self.seed,
            "strategies": {name: self._strategy(one) for name, one in self.strategies.items()},
        }

    def _strategy(self, strategy: Strategy) -> dict[str, Any]:
        given = {**strategy.options, **self.options.get(strategy.name, {})}
        decide = {name: x for name, x in given.items() if name not in strategy.means}
        decide |= {name: _contents(decide[name]) for name in strategy.reads}
        return {"code": fingerprint(strategy.make), **{k: _value(x) for k, x in decide.items()}}

    def __getstate__(self) -> dict[str, Any]:  # activations come with the shards
        held = self.activity
        tokens = _Tokens(held.corpus, held.counted, held.n_features)
        return {**vars(self), "activity": tokens, "ready": None}

    def shards(self) -> list[Shard]:
        """Some features each; one, where to ask for a label again is dear."""
        n, alone = len(self.features), any(one.alone for one in self.strategies.values())
        bounds = shards_of(n, 1, most=n) if alone else shards_of(n, TOGETHER)
        return [
            replace(shard, given=Asked(self.features[shard.start : shard.stop], self.activity))
            for shard in bounds
        ]

    def describe(self, shard: Shard) -> str:
        """The features, the first and the last with its name where it has one."""
        names = getattr(self.activity, "names", None)
        ends = shard.given.features[[0, -1]].tolist()
        first, last = (f"{i} ({names[i]!r})" if names else f"{i}" for i in ends)
        n = shard.stop - shard.start
        return f"feature {first}" if n == 1 else f"features {first} to {last} ({n} of them)"

    def set_up(self) -> Ready:
        """The strategies at work.

        Raises:
            UnknownName, OptionError, CorpusError: see `Ready.of`.
        """
        share = self.workers, self.used
        return Ready.of(self.activity, self.strategies, self.options, self.seed, *share)

    def open(self) -> Callable[[Shard], Partial]:
        """The labels of a shard's features."""
        ready = self.ready or self.set_up()
        return lambda shard: ready.made(shard.given.columns()).partial()


# -- what a job is ---------------------------------------------------------------------------------


def _identity(activity: Activity, features: Ids) -> str:
    """A hash of the activations: of what they were made by, where that is known."""
    if isinstance(activity, Activations):
        return fingerprint([activity.source, activity.masks.record])
    return fingerprint(list(_hashes(activity, features)))


def _hashes(activity: Activity, features: Ids) -> Iterator[str]:
    for first in range(0, len(features), TOGETHER):
        some = activity.columns(features[first : first + TOGETHER])
        yield fingerprint([some.starts, some.places, some.values])


def _contents(paths: str | Path | Sequence[str | Path] | None) -> list[str]:
    """Hashes of files that have been read, and so are there."""
    some = [paths] if isinstance(paths, str | Path) else paths or []
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in some]


def _value(value: Any) -> Any:
    """An option's value as a manifest says it: as it stands, or its hash."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and len(value) <= 40:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not callable(value):
        return fingerprint(
            {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        )
    return fingerprint(value)
