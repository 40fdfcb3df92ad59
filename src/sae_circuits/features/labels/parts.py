"""The prompts that labels are made from, and the others, on which they are tested."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sae_circuits.errors import CorpusError
from sae_circuits.features.columns import Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.labels.regexes import Pattern
from sae_circuits.features.labels.words import words_of

Places = Int64[np.ndarray, "_"]  # any number: several of them meet in one function


@dataclass(frozen=True, eq=False)
class Ground:
    """A corpus with what many predicates ask of it, each made once and when it is first asked for.

    Args:
        corpus: the tokens.
    """

    corpus: Corpus
    _matching: dict[Pattern, Bool[np.ndarray, "token"]] = field(default_factory=dict, repr=False)

    @cached_property
    def words(self) -> Int64[np.ndarray, "vocab"]:
        """The word of each token id: the same for " The" and "the"."""
        return words_of(self.corpus.vocabulary)

    @cached_property
    def _by_word(self) -> tuple[Places, Places]:
        ends = np.cumsum(np.bincount(self.words))
        order = np.argsort(self.words, kind="stable")
        return order, np.concatenate([[0], ends]).astype(np.int64)

    def variants(self, word: int) -> Int64[np.ndarray, "variant"]:
        """All ids of one word, rising."""
        order, starts = self._by_word
        return order[starts[word] : starts[word + 1]]

    @cached_property
    def _order(self) -> Places:
        return np.argsort(self.corpus.tokens, kind="stable")

    @cached_property
    def _starts(self) -> Int64[np.ndarray, "bound"]:
        counts = np.bincount(self.corpus.tokens, minlength=len(self.corpus.vocabulary))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def where(self, ids: Sequence[int] | Int64[np.ndarray, "some"]) -> Places:
        """The places of all tokens with one of some ids, rising."""
        starts = self._starts
        each = [self._order[starts[i] : starts[i + 1]] for i in ids]
        return np.sort(np.concatenate(each)) if each else np.zeros(0, dtype=np.int64)

    def shifted(self, places: Places, by: int) -> tuple[Places, Bool[np.ndarray, "place"]]:
        """Places that lie `by` tokens further, and which of them are in the same prompt."""
        corpus = self.corpus
        prompts, positions = corpus.locate(places)
        sizes = np.diff(corpus.starts)[prompts]
        return places + by, (positions + by >= 0) & (positions + by < sizes)

    def matching(self, pattern: Pattern) -> Bool[np.ndarray, "token"]:
        """The tokens that a pattern finds in the prompts' texts; searched for once."""
        if pattern not in self._matching:
            self._matching[pattern] = self._find(pattern)
        return self._matching[pattern]

    # -- text ------------------------------------------------------------------------------------

    @cached_property
    def pieces(self) -> list[str]:
        """What each token id adds to a text; a line break for a special one."""
        vocabulary = self.corpus.vocabulary
        return [
            "\n" if i in vocabulary.special else vocabulary.gap + text
            for i, text in enumerate(vocabulary.texts)
        ]

    @cached_property
    def _text(self) -> str:
        return "".join([self.pieces[token] for token in self.corpus.tokens.tolist()])

    @cached_property
    def _ends(self) -> tuple[Places, Places, Places]:
        """Of each token in the text: where it begins, and where its core begins and ends.

        The core of a token is its text without white space around it, unless there is nothing else.
        """
        sizes = np.array([len(p) for p in self.pieces], dtype=np.int64)
        lead = np.array([len(p) - len(p.lstrip()) if p.strip() else 0 for p in self.pieces])
        core = np.array([len(p.strip()) or len(p) for p in self.pieces], dtype=np.int64)
        tokens = self.corpus.tokens
        begins = np.concatenate([[0], np.cumsum(sizes[tokens])])[:-1].astype(np.int64)
        first = begins + lead[tokens]
        return begins, first, first + core[tokens]

    def _find(self, pattern: Pattern) -> Bool[np.ndarray, "token"]:
        begins, first, last = self._ends
        spans = self._spans(pattern.compiled, begins)
        kept = [(a, b) for a, b in spans if pattern.keeps(self._text[a:b])]
        found = np.zeros(self.corpus.n_tokens, dtype=bool)
        if kept:
            a, b = np.array(kept, dtype=np.int64).T
            if pattern.extent == "first":
                found[np.searchsorted(begins, a, side="right") - 1] = True
            else:
                change = np.zeros(len(self._text) + 1, dtype=np.int64)
                np.add.at(change, a, 1)
                np.add.at(change, b, -1)
                inside = np.concatenate([[0], np.cumsum(np.cumsum(change[:-1]) > 0)])
                covered = inside[last] - inside[first]
                found = covered > 0 if pattern.extent == "any" else covered == last - first
                found &= last > first
        return found & ~self.corpus.vocabulary.is_special[self.corpus.tokens]

    def _spans(self, compiled: re.Pattern[str], begins: Places) -> list[tuple[int, int]]:
        """Where a regex matches, prompt by prompt, so that no match runs over a prompt's end."""
        ends = [*begins[self.corpus.starts[:-1]].tolist(), len(self._text)]
        spans = []
        for a, b in pairwise(ends):
            prompt = self._text[a:b]
            spans += [(a + m.start(), a + m.end()) for m in compiled.finditer(prompt) if m[0]]
        return spans


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the counted tokens of a corpus.

    Args:
        ground: the whole corpus; what a predicate looks at around a token may lie outside the part.
        is_in: which tokens are in the part.
        weight: how many tokens each one stands for, where the part is a sample; None for 1.
    """

    ground: Ground
    is_in: Bool[np.ndarray, "token"]
    weight: Float64[np.ndarray, "token"] | None = None
    _matching: dict[Pattern, Places] = field(default_factory=dict, repr=False)

    @property
    def corpus(self) -> Corpus:
        """The tokens."""
        return self.ground.corpus

    @cached_property
    def places(self) -> Places:
        """The places of the tokens in the part, rising."""
        return np.flatnonzero(self.is_in)

    def matching(self, pattern: Pattern) -> Places:
        """The places of the part that a pattern finds, rising."""
        if pattern not in self._matching:
            self._matching[pattern] = np.flatnonzero(self.ground.matching(pattern) & self.is_in)
        return self._matching[pattern]

    def of(self, columns: Columns) -> Columns:
        """The activations on tokens of the part."""
        return columns.where(self.is_in[columns.places])


def split(ground: Ground, counted: Bool[np.ndarray, "token"]) -> tuple[Part, Part]:
    """Two halves of the prompts: to make labels from, and to test them on.

    Which prompt is where hangs on the corpus alone, so that all labels of a corpus, made whenever
    and of whatever dictionary, are tested on the same tokens.

    Raises:
        CorpusError: fewer than two prompts, or a half without a counted token.
    """
    corpus = ground.corpus
    if corpus.n_prompts < 2:
        raise CorpusError(
            f"{corpus!r}: labels are tested on prompts that they were not made from, so that there "
            "have to be two or more: cut the text into prompts"
        )
    held = held_out(corpus)[np.repeat(np.arange(corpus.n_prompts), np.diff(corpus.starts))]
    for some in (counted & ~held, counted & held):
        if not some.any():
            raise CorpusError(f"{corpus!r}: one half of the prompts has no counted token: add more")
    return Part(ground, counted & ~held), Part(ground, counted & held)


def held_out(corpus: Corpus) -> Bool[np.ndarray, "prompt"]:
    """Which prompts labels are tested on: half of them, drawn by a seed made of the corpus."""
    order = np.random.default_rng(int(corpus.fingerprint, 16)).permutation(corpus.n_prompts)
    found = np.zeros(corpus.n_prompts, dtype=bool)
    found[order[: corpus.n_prompts // 2]] = True
    return found
