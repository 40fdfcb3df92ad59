"""Profiles of features, as far as a store tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sae_circuits.dashboards.numbers import plain, short
from sae_circuits.dashboards.profile import (
    Aligned,
    Counts,
    Firing,
    Group,
    Neighbours,
    Profile,
    Said,
    Values,
    Window,
)
from sae_circuits.dashboards.reading import Rows, listed
from sae_circuits.dashboards.shown import SHARE_DIGITS
from sae_circuits.dashboards.windows import Key
from sae_circuits.features.examples import Wanted
from sae_circuits.features.store.tables import Contents


@dataclass(frozen=True, eq=False)
class Told:
    """What a store tells of some features.

    Args:
        rows: of its tables.
        windows: of the examples, by group.
        contents: what it was asked to keep.
    """

    rows: dict[str, Rows]
    windows: dict[Key, tuple[Window, ...]]
    contents: Contents

    def profile(self, feature: int) -> Profile:
        """All that is told of a feature."""
        rows = self.rows["features"]
        (at,) = rows.where(feature, "feature", feature)
        said = {name: plain(values[at]) for name, values in rows.columns.items()}
        numbers = {k: v for k, v in said.items() if k not in ("feature", "name")}
        return Profile(
            feature=feature,
            name=said["name"],
            labels=self._labels(feature),
            statistics=numbers,
            activations=self._counts(feature, "histogram"),
            logits=self._counts(feature, "logit"),
            top=self._tokens(feature, "top"),
            bottom=self._tokens(feature, "bottom"),
            firing=self._firing(feature),
            neurons=self._neurons(feature),
            heads=self._heads(feature),
            neighbours=self._neighbours(feature),
            groups=self._groups(feature, numbers),
        )

    # -- short lists -----------------------------------------------------------------------------

    def _labels(self, feature: int) -> tuple[Said, ...]:
        rows = self.rows["labels"]
        some = rows.of(feature)
        texts, strategies, scores = (rows[name][some] for name in ("text", "strategy", "score"))
        every = zip(texts, strategies, scores, strict=True)
        return tuple(Said(text, strategy, plain(score)) for text, strategy, score in every)

    def _counts(self, feature: int, kind: str) -> Counts | None:
        rows = self.rows["distributions"]
        found = rows.where(feature, "kind", kind)
        if not len(found):
            return None
        edges, counts = (listed(rows.lists(name), int(found[0])) for name in ("edges", "counts"))
        return Counts(tuple(short(edges)), tuple(counts.tolist()))

    def _tokens(self, feature: int, kind: str) -> Values:
        rows = self.rows["logits"]
        found = rows.where(feature, "kind", kind)
        return Values(tuple(rows["token"][found].tolist()), tuple(short(rows["effect"][found])))

    def _firing(self, feature: int) -> Firing:
        rows = self.rows["feature_tokens"]
        some = rows.of(feature)
        shares, recalls = (short(rows[name][some], SHARE_DIGITS) for name in ("share", "recall"))
        ids, counts = (rows[name][some].tolist() for name in ("token", "n"))
        return Firing(*map(tuple, (ids, counts, shares, recalls)))

    def _neighbours(self, feature: int) -> tuple[Neighbours, ...]:
        rows = self.rows["correlations"]
        some = rows.of(feature)
        among, measures = rows["among"][some], rows["measure"][some]
        found = []
        for kind in dict.fromkeys(zip(among.tolist(), measures.tolist(), strict=True)):
            own = np.flatnonzero((among == kind[0]) & (measures == kind[1])) + some.start
            ids, labels = (tuple(rows[name][own].tolist()) for name in ("other", "label"))
            found.append(Neighbours(*kind, ids, tuple(short(rows["value"][own])), labels))
        return tuple(found)

    def _neurons(self, feature: int) -> Aligned:
        rows = self.rows["neurons"]
        some = rows.of(feature)
        values, shares = (short(rows[name][some]) for name in ("value", "share"))
        return Aligned(tuple(rows["neuron"][some].tolist()), tuple(values), tuple(shares))

    def _heads(self, feature: int) -> tuple[float, ...] | None:
        rows = self.rows["heads"]
        return tuple(short(rows["share"][rows.of(feature)])) or None

    # -- examples --------------------------------------------------------------------------------

    def _groups(self, feature: int, numbers: dict[str, Any]) -> tuple[Group, ...]:
        n = numbers["n_active"]
        if not n:
            return ()
        low, high = short([numbers["min_active"], numbers["max_active"]])
        wanted, found = self.contents.examples, list[Group]()
        for kind in ("top", "interval", "quantile", "random"):
            spans = [(low, high, n)]
            if kind in ("interval", "quantile"):
                cut = self._counts(feature, kind)
                assert cut is not None  # of a feature that is active
                spans = list(zip(cut.edges, cut.edges[1:], cut.counts, strict=False))
            if not _is_wanted(wanted, kind):
                continue
            found += [
                Group(kind, i, *span, self.windows.get((feature, kind, i), ()))
                for i, span in enumerate(spans)
            ]
        return tuple(found)


def _is_wanted(wanted: Wanted, kind: str) -> bool:
    if kind in ("top", "random"):
        return bool(getattr(wanted, kind))
    return bool(getattr(wanted, f"{kind}s") and wanted.each)


def shown_tokens(profiles: Sequence[Profile]) -> list[int]:
    """All token ids that profiles show, rising."""
    found: set[int] = set()
    for one in profiles:
        found.update(one.top.ids, one.bottom.ids, one.firing.ids)
        for group in one.groups:
            for window in group.windows:
                found.update(window.tokens)
                if window.effects is not None:
                    for each in (*window.effects.helped, *window.effects.hurt):
                        found.update(each.ids)
    return sorted(found)
