"""Words in a label: which of a word's variants, in case and leading space, it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from sae_circuits.errors import OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.contrast import Choice, Contrast
from sae_circuits.features.labels.measure import wilson
from sae_circuits.features.labels.parts import Part
from sae_circuits.features.labels.predicates import TokenIn
from sae_circuits.features.labels.strategy import Proposal
from sae_circuits.features.labels.words import folded, listed

Ids = Int64[np.ndarray, "_"]


@dataclass(frozen=True, eq=False)
class WordContrast:
    """The words that some features fire on, or beside.

    Args:
        contrast: tokens by their ids, in groups of one word.
        offset: of the token that is looked at: 0 for the one that the feature fires on.
        most: words for one feature.
    """

    contrast: Contrast
    offset: int
    most: int

    @classmethod
    def of(cls, part: Part, *, offset: int = 0, least: int, most: int) -> WordContrast:
        """Set up for a part of a corpus.

        Raises:
            OptionError: `most` or `least` below 1.
        """
        if most < 1 or least < 1:
            raise OptionError(f"most={most}, least={least}: a label has a word, seen once or more")
        classes = token_classes(part, offset)
        n = len(part.corpus.vocabulary)
        return cls(Contrast(part, classes, n, part.ground.words, least), offset, most)

    def propose(self, columns: Columns, text: str) -> Iterator[Proposal]:
        """A label for each feature that fires on some words more than their share.

        Args:
            text: of the label, around the words.
        """
        counts = self.contrast.count(columns)
        ends = np.searchsorted(counts.column, np.arange(len(columns) + 1))
        for choice in self.contrast.choose(columns, self.most):
            own = slice(ends[choice.column], ends[choice.column + 1])
            hits = dict(zip(counts.group[own].tolist(), counts.hits[own].tolist(), strict=True))
            meant = [self._meant(i, choice, hits) for i in range(len(choice.groups))]
            ids = tuple(int(i) for some, _ in meant for i in some)
            yield Proposal(
                int(columns.features[choice.column]),
                text.format(listed([name for _, name in meant])),
                TokenIn(ids, self.offset),
                {"ids": list(ids), "offset": self.offset, **said(choice)},
            )

    def _meant(self, i: int, choice: Choice, hits: dict[int, int]) -> tuple[list[int], str]:
        """The ids of a word on which the feature fires as it does on the rest, and their name.

        A variant is left out where the corpus says that the feature fires on it less. One that the
        corpus does not have stands with those that differ from it in space only, if there are
        any, and with the rest if all of them are meant.
        """
        ids = self.contrast.part.ground.variants(int(choice.groups[i]))
        k = np.array([hits.get(int(v), 0) for v in ids], dtype=float)
        n = self.contrast.totals[ids].astype(float)
        low, _ = wilson(choice.hits[i : i + 1] * 1.0, choice.sizes[i : i + 1] * 1.0)
        meant = (n > 0) & (wilson(k, n)[1] >= low)
        vocabulary = self.contrast.part.corpus.vocabulary
        raw = [vocabulary[int(v)] for v in ids]
        bare = [text.strip() or text for text in raw]
        inside = {bare[j] for j in np.flatnonzero(meant)}
        outside = {bare[j] for j in np.flatnonzero((n > 0) & ~meant)}
        joins = [b not in outside and (not outside or b in inside) for b in bare]
        name = _name(raw, bare, k * meant, outside)
        return ids[meant | ((n == 0) & np.array(joins))].tolist(), name


def _name(raw: list[str], bare: list[str], hits: np.ndarray, outside: set[str]) -> str:
    """The word in small letters, if it is meant in several cases; else as it fires most.

    Its leading space is shown where it is what matters.
    """
    most = int(np.argmax(hits))
    cases = {bare[j] for j in np.flatnonzero(hits)}
    if len(cases) > 1:
        return folded(bare[most])
    return raw[most] if bare[most] in outside else bare[most]


def token_classes(part: Part, offset: int) -> Int64[np.ndarray, "token"]:
    """The id of the token `offset` further in the same prompt, -1 where there is none."""
    tokens = part.corpus.tokens.astype(np.int64)
    places, inside = part.ground.shifted(np.arange(len(tokens)), offset)
    classes = np.full(len(tokens), -1, dtype=np.int64)
    classes[inside] = tokens[places[inside]]
    return classes


def said(choice: Choice) -> dict[str, float | int]:
    """What is known of a choice from the prompts that it was made on, for the provenance."""
    return {"f_made_on": choice.f, "lift": choice.lift, "active_made_on": choice.active}
