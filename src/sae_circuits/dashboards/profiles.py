"""Profiles of features, as far as a store tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sae_circuits.dashboards.numbers import DIGITS, short
from sae_circuits.dashboards.profile import (
    Aligned,
    Counts,
    Firing,
    Group,
    Neighbours,
    Profile,
    Said,
)
from sae_circuits.dashboards.reading import Rows
from sae_circuits.dashboards.shown import SHARE_DIGITS
from sae_circuits.dashboards.window import Values, Windows
from sae_circuits.dashboards.windows import Key
from sae_circuits.features.examples import Wanted
from sae_circuits.features.store.tables import Contents

_SHARES = ("share", SHARE_DIGITS), ("recall", SHARE_DIGITS)
_ALIGNED = ("value", DIGITS), ("share", DIGITS)
NONE = Windows.from_rows(())


@dataclass(frozen=True, eq=False)
class Told:
    """What a store tells of some features.

    Args:
        rows: of its tables.
        windows: of the examples, by group.
        contents: what it was asked to keep.
    """

    rows: dict[str, Rows]
    windows: dict[Key, Windows]
    contents: Contents

    def profile(self, feature: int) -> Profile:
        """All that is told of a feature."""
        rows = self.rows["features"]
        (at,) = rows.where(feature, "feature", feature)
        said = {name: rows.plain(name)[at] for name in rows.columns}
        numbers = {k: v for k, v in said.items() if k not in ("feature", "name")}
        return Profile(
            feature=feature,
            name=said["name"],
            labels=tuple(map(Said, *self._columns(feature, "labels", "text", "strategy", "score"))),
            statistics=numbers,
            activations=self._counts(feature, "histogram"),
            logits=self._counts(feature, "logit"),
            top=self._tokens(feature, "top"),
            bottom=self._tokens(feature, "bottom"),
            firing=Firing(*self._columns(feature, "feature_tokens", "token", "n", *_SHARES)),
            neurons=Aligned(*self._columns(feature, "neurons", "neuron", *_ALIGNED)),
            heads=self._columns(feature, "heads", ("share", DIGITS))[0] or None,
            neighbours=self._neighbours(feature),
            groups=self._groups(feature, numbers),
        )

    # -- short lists -----------------------------------------------------------------------------

    def _columns(
        self, feature: int, table: str, *names: str | tuple[str, int]
    ) -> list[tuple[Any, ...]]:
        """A feature's part of some columns, each with the digits to show where it has many."""
        rows = self.rows[table]
        asked = ((name, None) if isinstance(name, str) else name for name in names)
        some = rows.of(feature)
        return [rows.plain(*each)[some] for each in asked]

    def _counts(self, feature: int, kind: str) -> Counts | None:
        rows = self.rows["distributions"]
        found = rows.where(feature, "kind", kind).tolist()
        if not found:
            return None
        return Counts(rows.listed("edges", found[0], DIGITS), rows.listed("counts", found[0]))

    def _tokens(self, feature: int, kind: str) -> Values:
        rows = self.rows["logits"]
        found = rows.where(feature, "kind", kind).tolist()
        columns = rows.plain("token"), rows.plain("effect", DIGITS)
        return Values(*(tuple([column[i] for i in found]) for column in columns))

    def _neighbours(self, feature: int) -> tuple[Neighbours, ...]:
        names = "among", "measure", "other", ("value", DIGITS), "label"
        found: dict[tuple[str, str], list[Any]] = {}
        for among, measure, *each in zip(
            *self._columns(feature, "correlations", *names), strict=True
        ):
            found.setdefault((among, measure), []).append(each)
        return tuple(Neighbours(*kind, *zip(*own, strict=True)) for kind, own in found.items())

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
                Group(kind, i, *span, self.windows.get((feature, kind, i), NONE))
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
        found.update(*(group.windows.shown for group in one.groups))
    return sorted(found)
