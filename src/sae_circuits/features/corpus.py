"""Tokens to see features on: prompts in a row, without padding, and what their ids stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64

from sae_circuits.errors import CorpusError


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What each token id stands for, as people read it.

    Args:
        texts: of each id, with the space or line break that it begins with.
        special: ids of tokens that are no text: begin, end, padding and their like.
    """

    texts: tuple[str, ...]
    special: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, token: int) -> str:
        return self.texts[token]

    @cached_property
    def is_special(self) -> Bool[np.ndarray, "vocab"]:
        """Which ids are special."""
        found = np.zeros(len(self), dtype=bool)
        found[sorted(self.special)] = True
        return found


@dataclass(frozen=True, eq=False)
class Corpus:
    """Prompts of tokens.

    A token's place is its index over all prompts, from 0; `locate` says in which prompt and at
    which position that is.

    Args:
        tokens: of all prompts in a row.
        starts: the place of each prompt's first token, and at last the number of tokens.
        vocabulary: of the tokenizer.
        name: for messages and records.

    Raises:
        CorpusError: no prompt, a prompt without a token, or an id that the vocabulary lacks.
    """

    tokens: Int32[np.ndarray, "token"]
    starts: Int64[np.ndarray, "bound"]
    vocabulary: Vocabulary
    name: str = "corpus"

    def __post_init__(self) -> None:
        if len(self.starts) < 2:
            raise CorpusError(f"{self.name!r} has no prompt: give at least one, with a token")
        sizes = np.diff(self.starts)
        if self.starts[0] != 0 or self.starts[-1] != len(self.tokens) or (sizes < 0).any():
            raise CorpusError(f"{self.name!r}: starts have to rise from 0 to {len(self.tokens)}")
        if not sizes.all():
            empty = int(np.flatnonzero(sizes == 0)[0])
            raise CorpusError(f"{self.name!r}: prompt {empty} has no token: leave it out")
        low, high = int(self.tokens.min()), int(self.tokens.max())
        if low < 0 or high >= len(self.vocabulary):
            wrong = low if low < 0 else high
            raise CorpusError(
                f"{self.name!r} holds token id {wrong}, and the vocabulary has ids 0 to "
                f"{len(self.vocabulary) - 1}: tokenize with the model's own tokenizer"
            )

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}: {self.n_prompts:,} prompts, {self.n_tokens:,} tokens)"

    # -- sizes and places ------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.n_prompts

    @property
    def n_prompts(self) -> int:
        """How many prompts there are."""
        return len(self.starts) - 1

    @property
    def n_tokens(self) -> int:
        """How many tokens there are, counted ones or not."""
        return len(self.tokens)

    @cached_property
    def longest(self) -> int:
        """The length of the longest prompt."""
        return int(np.diff(self.starts).max())

    def locate(
        self, places: Int64[np.ndarray, "some"]
    ) -> tuple[Int64[np.ndarray, "some"], Int64[np.ndarray, "some"]]:
        """The prompt of each place, and the position in it."""
        prompts = np.searchsorted(self.starts, places, side="right") - 1
        return prompts, places - self.starts[prompts]

    @cached_property
    def positions(self) -> Int32[np.ndarray, "token"]:
        """The position of every token in its prompt."""
        each = np.arange(self.n_tokens) - np.repeat(self.starts[:-1], np.diff(self.starts))
        return each.astype(np.int32)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all tokens, of where prompts begin, and of what ids stand for."""
        digest = hashlib.sha256(self.tokens.tobytes() + self.starts.tobytes())
        digest.update(repr((self.vocabulary.texts, sorted(self.vocabulary.special))).encode())
        return digest.hexdigest()[:16]

    # -- parts ---------------------------------------------------------------------------------

    def prompt(self, i: int) -> Int32[np.ndarray, "pos"]:
        """The tokens of one prompt."""
        return self.tokens[self.starts[i] : self.starts[i + 1]]

    def __iter__(self) -> Iterator[Int32[np.ndarray, "pos"]]:
        return map(self.prompt, range(self.n_prompts))

    def __getitem__(self, prompts: slice) -> Corpus:
        """Some prompts in a row."""
        first, stop, step = prompts.indices(self.n_prompts)
        if step != 1:
            raise CorpusError(f"prompts[{first}:{stop}:{step}]: only prompts in a row can be taken")
        ends = self.starts[first : max(first, stop) + 1]
        tokens = self.tokens[ends[0] : ends[-1]]
        return Corpus(tokens, ends - ends[0], self.vocabulary, self.name)

    def __add__(self, other: Corpus) -> Corpus:
        """The prompts of both, in this order.

        Raises:
            CorpusError: another vocabulary.
        """
        if other.vocabulary.texts != self.vocabulary.texts:
            raise CorpusError(f"{self!r} and {other!r} are of different tokenizers")
        name = self.name if self.name == other.name else f"{self.name} + {other.name}"
        starts = np.concatenate([self.starts, other.starts[1:] + self.n_tokens])
        return Corpus(np.concatenate([self.tokens, other.tokens]), starts, self.vocabulary, name)

    def text(self, tokens: Sequence[int] | Int32[np.ndarray, "some"]) -> str:
        """What tokens read, one after the other."""
        return "".join(self.vocabulary[int(token)] for token in tokens)

    # -- making ----------------------------------------------------------------------------------

    @classmethod
    def of_prompts(
        cls, prompts: Sequence[Any], vocabulary: Vocabulary, name: str = "corpus"
    ) -> Corpus:
        """A corpus of prompts that are sequences of token ids."""
        sizes = [len(prompt) for prompt in prompts]
        starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        each = [np.asarray(prompt, dtype=np.int32) for prompt in prompts]
        tokens = np.concatenate(each) if each else np.zeros(0, dtype=np.int32)
        return cls(tokens, starts, vocabulary, name)
