"""What labels point at: places of a corpus, from the tokens there and around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sae_circuits.features.labels.parts import Part, Places
from sae_circuits.features.labels.regexes import Pattern


@dataclass(frozen=True)
class TokenIn:
    """Places whose token, or the one `offset` further in the same prompt, is one of some ids."""

    ids: tuple[int, ...]
    offset: int = 0

    def __call__(self, part: Part) -> Places:
        """The places, rising."""
        found = part.ground.where(self.ids)
        if self.offset:
            places, inside = part.ground.shifted(found, -self.offset)
            found = places[inside]
        return found[part.is_in[found]]


@dataclass(frozen=True)
class EndsIn:
    """Places at which one of some sequences of words ends; a word is any of its variants' ids."""

    sequences: tuple[tuple[tuple[int, ...], ...], ...]

    def __call__(self, part: Part) -> Places:
        """The places, rising."""
        each = [self._ends(part, sequence) for sequence in self.sequences]
        return np.unique(np.concatenate(each))

    def _ends(self, part: Part, sequence: tuple[tuple[int, ...], ...]) -> Places:
        found = TokenIn(sequence[-1])(part)
        for back, ids in enumerate(reversed(sequence[:-1]), start=1):
            before, inside = part.ground.shifted(found, -back)
            found, before = found[inside], before[inside]
            found = found[np.isin(part.corpus.tokens[before], ids)]
        return found


@dataclass(frozen=True)
class Matches:
    """Places of the tokens that a pattern finds."""

    pattern: Pattern

    def __call__(self, part: Part) -> Places:
        """The places, rising."""
        return part.matching(self.pattern)
