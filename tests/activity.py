"""Small activity in memory: activations [token, feature] that a test writes down or draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sae_circuits.features.columns import Columns
from sae_circuits.features.corpus import Corpus, Vocabulary


@dataclass(frozen=True, eq=False)
class MemoryActivity:
    """`Activity` of a dense array; `dense[counted]` is what a reference counts with."""

    corpus: Corpus
    dense: np.ndarray
    counted: np.ndarray
    block: int

    @property
    def n_features(self) -> int:
        return self.dense.shape[1]

    def columns(self, features: np.ndarray) -> Columns:
        found = [np.flatnonzero((self.dense[:, f] != 0) & self.counted) for f in features]
        values = [self.dense[places, f] for places, f in zip(found, features, strict=True)]
        starts = np.cumsum([0, *map(len, found)], dtype=np.int64)
        return Columns(
            np.asarray(features, dtype=np.int64),
            starts,
            np.concatenate([*found, np.zeros(0, dtype=np.int64)]).astype(np.int64),
            np.concatenate([*values, np.zeros(0, dtype=np.float32)]).astype(np.float32),
        )

    def blocks(self) -> Iterator[Columns]:
        for first in range(0, self.n_features, self.block):
            yield self.columns(np.arange(first, min(first + self.block, self.n_features)))


def made_of(
    corpus: Corpus,
    dense: np.ndarray | Sequence[Sequence[float]],
    counted: np.ndarray | None = None,
    *,
    block: int = 3,
) -> MemoryActivity:
    """Activity with these activations.

    Args:
        dense: [token, feature].
        counted: of each token whether it counts; by default all do.
        block: how many features `blocks` gives at a time.
    """
    values = np.asarray(dense, dtype=np.float32)
    assert values.ndim == 2
    assert len(values) == corpus.n_tokens
    which = np.ones(corpus.n_tokens, dtype=bool) if counted is None else np.asarray(counted, bool)
    return MemoryActivity(corpus, values, which, block)


def small_corpus(
    lengths: Sequence[int] = (6, 6), *, n_vocab: int = 10, seed: int = 0, special: int | None = None
) -> Corpus:
    """Random tokens in prompts of these lengths; `special` is put first in each."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, n_vocab, n) for n in lengths]
    if special is not None:
        for prompt in prompts:
            prompt[0] = special
    texts = tuple(f" w{i}" for i in range(n_vocab))
    vocabulary = Vocabulary(texts, frozenset() if special is None else frozenset([special]))
    return Corpus.of_prompts(prompts, vocabulary, "small")


def corpus_of(*prompts: Sequence[int], texts: Sequence[str] | None = None) -> Corpus:
    """Prompts of these ids; without texts, id 3 reads " w3"."""
    known = texts or [f" w{i}" for i in range(1 + max(max(prompt) for prompt in prompts))]
    return Corpus.of_prompts(prompts, Vocabulary(tuple(known)), "small")


def random_activity(
    lengths: Sequence[int] = (7, 1, 12, 5),
    n_features: int = 11,
    *,
    share: float = 0.3,
    masked: float = 0.2,
    block: int = 3,
    seed: int = 0,
) -> MemoryActivity:
    """Activity of random features on a random corpus, of which feature 0 is dead.

    Args:
        share: of tokens on which a feature is active.
        masked: share of tokens that do not count.
    """
    rng = np.random.default_rng(seed)
    corpus = small_corpus(lengths, seed=seed)
    shape = corpus.n_tokens, n_features
    dense = rng.standard_normal(shape) * (rng.random(shape) < share)
    dense[:, 0] = 0
    counted = rng.random(corpus.n_tokens) >= masked
    return made_of(corpus, dense, counted, block=block)
