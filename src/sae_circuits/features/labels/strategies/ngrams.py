"""The sequences of words at whose end a feature fires more than their share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Int64

from sae_circuits.errors import OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.contrast import Choice, Contrast
from sae_circuits.features.labels.parts import Part
from sae_circuits.features.labels.predicates import EndsIn
from sae_circuits.features.labels.strategy import Proposal, Propose, Setting, Strategy
from sae_circuits.features.labels.variants import said
from sae_circuits.features.labels.words import listed

BETTER = 0.01  # by which a longer sequence has to foretell better than a shorter one


def make(setting: Setting, *, lengths: Sequence[int], most: int, least: int) -> Propose:
    """Labels such as `the end of "New York"`, of the length that foretells best.

    Variants of a word in case and leading space are one word, unless it foretells better to take
    tokens as they are written.

    Args:
        lengths: of the sequences, in tokens, of 1 to 4.
        most: sequences in a label.
        least: ends of a sequence on which the feature has to fire.

    Raises:
        OptionError: another length.
    """
    if not lengths or not set(lengths) <= {1, 2, 3, 4}:
        raise OptionError(f"lengths={lengths!r}: sequences are of 1 to 4 tokens")
    if most < 1 or least < 1:
        raise OptionError(f"most={most}, least={least}: a label has a sequence, seen once or more")
    made = []
    for exact in (False, True):
        every = grams(setting.part, max(lengths), exact=exact)
        made += [_Grams.of(setting.part, every[n - 1], n, exact, least) for n in sorted({*lengths})]
    return partial(_propose, [one for one in made if len(one.first)], most)


def grams(part: Part, longest: int, *, exact: bool) -> list[Int64[np.ndarray, "token"]]:
    """For each length a number of the sequence of words that ends at each place; -1 where none.

    Equal numbers mean equal sequences, of words, or of tokens if `exact`. None runs over the
    beginning of a prompt.
    """
    ground, tokens = part.ground, part.corpus.tokens
    words = np.unique(tokens if exact else ground.words[tokens], return_inverse=True)[1]
    found, places = [words], np.arange(len(words))
    before, inside = ground.shifted(places, -1)
    for _ in range(longest - 1):
        shorter = np.full(len(words), -1, dtype=np.int64)
        shorter[inside] = found[-1][before[inside]]
        known = shorter >= 0
        longer = np.full(len(words), -1, dtype=np.int64)
        keys = shorter[known] * (int(words.max()) + 1) + words[known]
        longer[known] = np.unique(keys, return_inverse=True)[1]
        found.append(longer)
    return found


@dataclass(frozen=True, eq=False)
class _Grams:
    """Sequences of one length, and where each is first seen."""

    length: int
    exact: bool
    contrast: Contrast
    first: Int64[np.ndarray, "gram"]

    @classmethod
    def of(
        cls,
        part: Part,
        classes: Int64[np.ndarray, "token"],
        length: int,
        exact: bool,
        least: int,
    ) -> _Grams:
        known = np.flatnonzero(classes >= 0)
        first = known[np.unique(classes[known], return_index=True)[1]]
        return cls(length, exact, Contrast(part, classes, len(first), least=least), first)

    def proposal(self, choice: Choice, feature: int) -> Proposal:
        part, n = self.contrast.part, self.length
        vocabulary = part.corpus.vocabulary
        sequences, texts = [], []
        for last in self.first[choice.groups].tolist():
            tokens = part.corpus.tokens[last - n + 1 : last + 1].tolist()
            sequences.append(tuple(self._variants(token) for token in tokens))
            read = vocabulary.read(tokens)
            texts.append(read.strip() or read)
        text = listed(texts) if n == 1 else f"the end of {listed(texts)}"
        made = {"sequences": [[list(ids) for ids in s] for s in sequences], **said(choice)}
        return Proposal(feature, text, EndsIn(tuple(sequences)), made)

    def _variants(self, token: int) -> tuple[int, ...]:
        ground = self.contrast.part.ground
        return (token,) if self.exact else tuple(ground.variants(int(ground.words[token])).tolist())


def _propose(every: Sequence[_Grams], most: int, columns: Columns) -> Iterator[Proposal]:
    best: dict[int, tuple[_Grams, Choice]] = {}
    for one in every:
        for choice in one.contrast.choose(columns, most):
            i = choice.column
            if i not in best or choice.f > best[i][1].f + BETTER:
                best[i] = one, choice
    for i, (one, choice) in sorted(best.items()):
        yield one.proposal(choice, int(columns.features[i]))


STRATEGY = Strategy(
    name="ngrams", make=make, options={"lengths": (1, 2, 3, 4), "most": 5, "least": 2}
)
