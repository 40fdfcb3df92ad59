"""A made-up corpus of small sentences in tokens with leading spaces, and features planted in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from activity import MemoryActivity, made_of
from sae_circuits.features.corpus import Corpus, Vocabulary

BOS = "<|endoftext|>"
ANIMALS = " cat", " dog", " horse", " cow"
WORDS = (
    *(BOS, " the", " The", "the", " a", " an", " A", "an", " New", " York", " new", " York's"),
    *(*ANIMALS, " Mr", " Mrs", " Smith", " and", " of", " in", " he", " it", ".", ",", "!", "\n"),
    *(" 7", " 1984", "12", " NASA", " runs", " sees", " red", " old", " big", " blue", " THE"),
)
ID = {text: i for i, text in enumerate(WORDS)}
UNSEEN = ("the", " THE", " York's")  # of the vocabulary, but in no prompt


def sentences(
    n_prompts: int = 240, length: int = 24, seed: int = 0, without: Sequence[str] = ()
) -> Corpus:
    """Random words in prompts that begin with a special token; York is often New York."""
    rng = np.random.default_rng(seed)
    usual = [ID[word] for word in WORDS if word not in (BOS, *UNSEEN, *without)]
    prompts = []
    for _ in range(n_prompts):
        words = rng.choice(usual, length)
        words[0] = ID[BOS]
        for at in np.flatnonzero(words[:-1] == ID[" New"]):
            words[at + 1] = ID[" York"] if rng.random() < 0.5 else words[at + 1]
        prompts.append(words)
    return Corpus.of_prompts(prompts, Vocabulary(WORDS, frozenset([0])), "sentences")


def firing(corpus: Corpus, when: Callable[[list[str], int], bool]) -> np.ndarray:
    """1 where a rule says so of a prompt's texts and a position, else 0."""
    found = []
    for prompt in corpus:
        texts = [corpus.vocabulary[int(token)] for token in prompt]
        found += [float(when(texts, i)) for i in range(len(texts))]
    return np.array(found, dtype=np.float32)


def activity_of(corpus: Corpus, *features: np.ndarray) -> MemoryActivity:
    """Activity of some features, on all tokens that are not special."""
    counted = ~corpus.vocabulary.is_special[corpus.tokens]
    return made_of(corpus, np.stack(features, 1), counted)


def text_corpus(*prompts: Sequence[str]) -> Corpus:
    """A corpus of prompts whose tokens are written down as texts."""
    ids: dict[str, int] = {}
    rows = [[ids.setdefault(text, len(ids)) for text in prompt] for prompt in prompts]
    return Corpus.of_prompts(rows, Vocabulary(tuple(ids)), "text")
