"""The kinds of text that a feature fires on: numbers, articles, dates, a regex of the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sae_circuits.errors import unknown
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.contrast import by_more_than_chance
from sae_circuits.features.labels.predicates import Matches
from sae_circuits.features.labels.regexes import patterns_of
from sae_circuits.features.labels.strategy import Proposal, Propose, Setting, Strategy


def make(
    setting: Setting, *, only: Sequence[str] | None, custom: Mapping[str, str], least: int
) -> Propose:
    """Labels such as `number`: the pattern that foretells a feature best, if better than chance.

    Patterns are matched on the text of a whole prompt and carried back to its tokens.

    Args:
        only: names of the patterns to try; by default all.
        custom: regexes of one's own, by name; a token is found if a match touches it.
        least: matched tokens on which the feature has to fire.

    Raises:
        OptionError: a regex that does not compile, or a name that is taken.
        UnknownName: no such pattern.
    """
    known = patterns_of(custom)
    for name in only or ():
        if name not in known:
            raise unknown("pattern", name, known)
    patterns = [known[name] for name in known if only is None or name in only]
    part = setting.part
    masks = np.stack([part.ground.matching(pattern) for pattern in patterns])
    sizes = (masks & part.is_in).sum(1)

    def propose(columns: Columns) -> Iterator[Proposal]:
        active, n = columns.counts, len(columns)
        owner = columns.owner
        hits = np.stack([np.bincount(owner[m[columns.places]], minlength=n) for m in masks])
        base = active / len(part.places)
        f = 2 * hits / np.maximum(active + sizes[:, None], 1)
        all_sizes = np.broadcast_to(sizes[:, None], hits.shape)
        all_base = np.broadcast_to(base, hits.shape)
        better = by_more_than_chance(hits, all_sizes, all_base, len(patterns))
        f = np.where(better & (hits >= least), f, 0.0)
        for i in np.flatnonzero(f.max(0)).tolist():
            best = int(f[:, i].argmax())
            lift = hits[best, i] / sizes[best] / base[i]
            made = {
                "pattern": patterns[best].name,
                "regex": patterns[best].regex,
                "f_made_on": float(f[best, i]),
                "lift": float(lift),
                "active_made_on": int(active[i]),
            }
            feature = int(columns.features[i])
            yield Proposal(feature, patterns[best].name, Matches(patterns[best]), made)

    return propose


STRATEGY = Strategy(name="patterns", make=make, options={"only": None, "custom": {}, "least": 2})
