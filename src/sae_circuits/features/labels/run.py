"""`label`: several strategies over all features, and the test of what they propose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from jaxtyping import Int64

from sae_circuits.errors import OptionError, unknown
from sae_circuits.features.asked import feature_ids
from sae_circuits.features.columns import Activity, Columns
from sae_circuits.features.labels.label import Label
from sae_circuits.features.labels.measure import measure
from sae_circuits.features.labels.parts import Ground, Part, Places, split
from sae_circuits.features.labels.strategies import STRATEGIES
from sae_circuits.features.labels.strategy import Proposal, Setting, Strategy, Untested
from sae_circuits.progress import track

DEFAULT = ("tokens", "ngrams", "patterns")
TOGETHER = 64  # features of which strategies see the activations at once


def strategies() -> tuple[str, ...]:
    """The names of the strategies that `label` knows."""
    return tuple(STRATEGIES)


def label(
    activity: Activity,
    strategies: str | Strategy | Sequence[str | Strategy] = DEFAULT,
    features: Iterable[int] | None = None,
    seed: int = 0,
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
        options: of each strategy, by its name, such as `clusters={"embeddings": W_E}`.

    Returns:
        Labels by feature; of each feature those to show first, and of these the untested ones, by
        a person or from a file, and then the best score. A feature of which a strategy has nothing
        to say has no label of that strategy.

    Raises:
        UnknownName: no such strategy or feature, or an option that a strategy does not have.
        OptionError: a value that an option does not take, or options of a strategy that was not
            asked for.
        CorpusError: fewer than two prompts.
    """
    chosen = _chosen(strategies)
    wanted = _wanted(features, activity.n_features)
    for name in options:
        if name not in chosen:
            raise OptionError(f"options of {name!r}, which is not among {', '.join(chosen)}")
    making, held = split(activity, Ground(activity.corpus))
    setting = Setting(making, activity.n_features, seed)
    ready = {name: one(setting, options.get(name, {})) for name, one in chosen.items()}

    def each() -> Iterator[list[Label]]:
        for piece in _pieces(activity, wanted):
            mine, others = making.of(piece), held.of(piece)
            found: dict[int, list[Label]] = {feature: [] for feature in piece.features.tolist()}
            columns = {feature: i for i, feature in enumerate(found)}
            for name, propose in ready.items():
                for one in propose(mine):
                    active, _ = others.column(columns[one.feature])
                    found[one.feature].append(_tested(one, name, held, active, seed))
            yield from (sorted(labels, key=_best_first) for labels in found.values())

    n = activity.n_features if wanted is None else len(wanted)
    return [one for labels in track(each(), total=n, description="labels") for one in labels]


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


def _wanted(features: Iterable[int] | None, n: int) -> Int64[np.ndarray, "feature"] | None:
    if features is None:
        return None
    return np.unique(feature_ids(list(features), n))


def _pieces(activity: Activity, wanted: Int64[np.ndarray, "feature"] | None) -> Iterator[Columns]:
    """The activations of all features, or of some, a few features at a time."""
    if wanted is None:
        for block in activity.blocks():
            for first in range(0, len(block), TOGETHER):
                yield block[first : first + TOGETHER]
    else:
        for first in range(0, len(wanted), TOGETHER):
            yield activity.columns(wanted[first : first + TOGETHER])


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
        return replace(made, provenance={**made.provenance, "untested": str(reason)})
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
