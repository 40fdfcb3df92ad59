"""Tokens to see features on: prompts in a row, without padding, and what their ids stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from sae_circuits.errors import CorpusError
from sae_circuits.features.vocabulary import Vocabulary


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
    def prompts(self) -> Int32[np.ndarray, "token"]:
        """The prompt of every token."""
        return np.repeat(np.arange(self.n_prompts, dtype=np.int32), np.diff(self.starts))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all tokens, of where prompts begin, and of what ids stand for."""
        digest = hashlib.sha256(self.tokens.tobytes() + self.starts.tobytes())
        said = self.vocabulary
        digest.update(repr((said.texts, sorted(said.special), said.gap)).encode())
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
        return self.vocabulary.read(tokens)

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

    @classmethod
    def from_texts(
        cls,
        texts: str | Iterable[str],
        model: Any,
        *,
        n_ctx: int | None = None,
        prepend_bos: bool = True,
        name: str = "texts",
    ) -> Corpus:
        """Make a corpus of texts: see `sae_circuits.features.corpora.from_texts`."""
        from sae_circuits.features.corpora import from_texts

        return from_texts(texts, model, n_ctx=n_ctx, prepend_bos=prepend_bos, name=name)

    @classmethod
    def from_files(
        cls,
        paths: str | Path | Iterable[str | Path],
        model: Any,
        *,
        field: str = "text",
        lines: bool = False,
        encoding: str | None = None,
        n_ctx: int | None = None,
        prepend_bos: bool = True,
        name: str | None = None,
    ) -> Corpus:
        """Make a corpus of texts in files: see `sae_circuits.features.corpora.from_files`."""
        from sae_circuits.features.corpora import from_files

        how = {"field": field, "lines": lines, "encoding": encoding}
        return from_files(paths, model, **how, n_ctx=n_ctx, prepend_bos=prepend_bos, name=name)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        model: Any,
        *,
        column: str = "text",
        split: str = "train",
        config: str | None = None,
        n: int | None = None,
        streaming: bool = False,
        n_ctx: int | None = None,
        prepend_bos: bool = True,
        name: str | None = None,
    ) -> Corpus:
        """Make a corpus of a data set: see `sae_circuits.features.corpora.from_dataset`."""
        from sae_circuits.features.corpora import from_dataset

        where = {"column": column, "split": split, "config": config}
        how = {"n": n, "streaming": streaming, "n_ctx": n_ctx, "prepend_bos": prepend_bos}
        return from_dataset(dataset, model, **where, **how, name=name)

    @classmethod
    def from_tokens(cls, tokens: Any, of: Any, *, mask: Any = None, name: str = "tokens") -> Corpus:
        """Make a corpus of token ids: see `sae_circuits.features.corpora.from_tokens`."""
        from sae_circuits.features.corpora import from_tokens

        return from_tokens(tokens, of, mask=mask, name=name)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write to one safetensors file; `Corpus.load` reads it back."""
        from sae_circuits.features.corpus_file import save_corpus

        return save_corpus(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Corpus:
        """Read what `save` wrote: see `sae_circuits.features.corpus_file.load_corpus`."""
        from sae_circuits.features.corpus_file import load_corpus

        return load_corpus(path)
