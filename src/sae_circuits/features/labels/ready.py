"""Strategies at work: labels for some features, each tested on held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.kept import UNTESTED, Made
from sae_circuits.features.labels.label import Label
from sae_circuits.features.labels.measure import measure
from sae_circuits.features.labels.parts import Ground, Part, Places, split
from sae_circuits.features.labels.strategy import (
    Counting,
    LeftOut,
    Proposal,
    Propose,
    Setting,
    Strategy,
    Untested,
)

TOGETHER = 64  # features of which strategies see the activations at once


@dataclass(frozen=True, eq=False)
class Ready:
    """Strategies that have been set up on a corpus.

    Args:
        making: what labels are made from.
        held: what they are tested on.
        propose: by strategy.
        seed: of strategies that draw.
    """

    making: Part
    held: Part
    propose: Mapping[str, Propose]
    seed: int

    @classmethod
    def of(
        cls,
        activity: Any,
        strategies: Mapping[str, Strategy],
        options: Mapping[str, Mapping[str, Any]],
        seed: int,
        workers: int = 1,
        used: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
    ) -> Ready:
        """Of what a `LabelsJob` has.

        Raises:
            UnknownName, OptionError: an option that a strategy does not have, or its value.
            CorpusError: fewer than two prompts.
        """
        making, held = split(Ground(activity.corpus), activity.counted)
        setting = Setting(making, activity.n_features, seed, workers)
        propose = {
            name: one(replace(setting, used=used.get(name, {})), options.get(name, {}))
            for name, one in strategies.items()
        }
        return cls(making, held, propose, seed)

    def made(self, columns: Columns) -> Made:
        """The labels of some features, and how much went into them."""
        before = self._used()
        labels, left = list[Label](), list[LeftOut]()
        for first in range(0, len(columns), TOGETHER):
            self._label(columns[first : first + TOGETHER], labels, left)
        used = {
            name: {key: n - before[name].get(key, 0) for key, n in amounts.items()}
            for name, amounts in self._used().items()
        }
        return Made(tuple(labels), tuple(left), used)

    def _label(self, columns: Columns, labels: list[Label], left: list[LeftOut]) -> None:
        mine, others = self.making.of(columns), self.held.of(columns)
        found: dict[int, list[Label]] = {feature: [] for feature in columns.features.tolist()}
        at = {feature: i for i, feature in enumerate(found)}
        for name, propose in self.propose.items():
            for one in propose(mine):
                if isinstance(one, LeftOut):
                    left.append(one)
                    continue
                active, _ = others.column(at[one.feature])
                found[one.feature].append(_tested(one, name, self.held, active, self.seed))
        for each in found.values():
            labels += sorted(each, key=_best_first)

    def _used(self) -> dict[str, dict[str, int]]:
        counting = {k: one for k, one in self.propose.items() if isinstance(one, Counting)}
        return {name: dict(one.used) for name, one in counting.items()}


def _tested(proposal: Proposal, strategy: str, held: Part, active: Places, seed: int) -> Label:
    """The label that a proposal becomes."""
    base = len(active) / len(held.places)
    made = Label(
        proposal.feature,
        proposal.text,
        strategy,
        base_rate=base,
        shown=proposal.vouched,
        provenance={**proposal.provenance, "seed": seed},
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    if proposal.predicts is None:
        return made
    part = held if proposal.sample is None else proposal.sample(held, active)
    try:
        found = measure(proposal.predicts, part, active)
    except Untested as reason:
        return replace(made, provenance={**made.provenance, UNTESTED: str(reason)})
    interval = found.precision.interval
    return replace(
        made,
        score=found.score,
        precision=found.precision.value,
        recall=found.recall.value,
        precision_interval=interval,
        recall_interval=found.recall.interval,
        shown=interval is not None and interval[0] > base,
        provenance={**made.provenance, "test": found.counts},
    )


def _best_first(label: Label) -> tuple[bool, bool, float]:
    return not label.shown, label.score is not None, -(label.score or 0.0)
