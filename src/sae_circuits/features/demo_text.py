"""Text in the language of the bundled model: sentences of its six tasks, and repeated words."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int32

from sae_circuits import tasks
from sae_circuits.errors import CorpusError, OptionError
from sae_circuits.features.corpora import AT_ONCE, encoded
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.vocabulary import Vocabulary, tokenizer_of
from sae_circuits.models import load_model
from sae_circuits.progress import track
from sae_circuits.tasks.recipes import Recipe, literal
from sae_circuits.tasks.strings import Pair
from sae_circuits.tasks.words import forms

CONTEXT = 32  # tokens that the bundled model reads
PATTERN = r"\d{2}|[^\W\d]+|[^\w\s]+"  # its words: numbers fall into pairs of digits
SHARES = MappingProxyType(
    {
        "ioi": 0.26,
        "greater_than": 0.24,
        "subject_verb": 0.10,
        "induction": 0.18,
        "docstring": 0.10,
        "facts": 0.12,
    }
)
"""How much of its training text is of which task."""

Word = TypeVar("Word")


def demo_corpus(n_tokens: int, seed: int = 0, *, model: Any = None) -> Corpus:
    """A corpus in the language of the bundled model, of any length.

    Every prompt is a sentence of one of the model's six tasks with its answer, of any template and
    any words, or a list of words in which pieces come again; they are as frequent as in training,
    and have 32 tokens at most. The last prompt is cut so that the number of tokens is right, so a
    longer corpus begins with the tokens of a shorter one.

    Args:
        n_tokens: how many tokens, those that prompts begin with among them.
        seed: of the random draw.
        model: the model or tokenizer that writes the tokens; by default the bundled one.

    Raises:
        OptionError: no tokens.
        CorpusError: the model has no tokenizer.

    >>> corpus = demo_corpus(1000)
    >>> corpus, corpus.text(corpus.prompt(1))
    (Corpus('demo': ... prompts, 1,000 tokens), '<|endoftext|> ...')
    """
    if n_tokens < 1:
        raise OptionError(f"n_tokens={n_tokens}: ask for at least one")
    model = load_model("demo") if model is None else model
    tokenizer = tokenizer_of(model)
    if tokenizer is None:
        raise CorpusError(f"{type(model).__name__} has no tokenizer: leave it out, or pass another")
    size = min(CONTEXT, getattr(getattr(model, "cfg", None), "n_ctx", CONTEXT))
    prompts, n = [], 0
    for prompt in track(_prompts(tokenizer, seed, size), description="writing text"):
        prompts.append(prompt[: n_tokens - n])
        n += len(prompts[-1])
        if n == n_tokens:
            break
    return Corpus.of_prompts(prompts, Vocabulary.of(model), "demo")


def sentences(seed: int) -> Iterator[str]:
    """Sentences without end, the same for the same seed."""
    rng, words = random.Random(seed), all_words()
    streams = {name: tasks.recipe(name).pairs(rng) for name in SHARES}
    while True:
        (name,) = rng.choices(list(SHARES), weights=list(SHARES.values()))
        if name == "induction":
            said, _ = repeats(rng, words, CONTEXT)
            yield rng.choice(("", "List: ")) + " ".join(said)
        else:
            pair = next(streams[name])
            yield f"{pair.clean}{rng.choice(pair.answer)}"


def repeats(rng: random.Random, words: Sequence[Word], least: int) -> tuple[list[Word], list[bool]]:
    """Draw random words in which pieces come again, anywhere, so that no position tells them.

    Returns:
        At least so many words, and whether each can be told from those before it.
    """
    said = rng.sample(words, rng.randint(3, 14))
    known = [False] * len(said)
    while len(said) < least:
        if rng.random() < 0.2:
            piece = [rng.choice(words)]
        else:
            begin = rng.randrange(len(said) - 1)
            piece = said[begin : begin + rng.randint(2, 12)]
        said += piece
        known += [False] + [True] * (len(piece) - 1)
    return said, known


def all_words() -> list[str]:
    """Every word of every task, in order of first appearance: the bundled model's vocabulary."""
    recipes = [tasks.recipe(name) for name in tasks.DEMO]
    texts = [literal(template) for recipe in recipes for template in recipe.templates]
    texts += [form for r in recipes for entries in r.words.values() for form in forms(entries)]
    texts += [" is was has are were have .", " ".join(f"{i:02}" for i in range(100))]
    texts += [pair.corrupt for recipe in recipes for pair in _some(recipe)]
    return list(dict.fromkeys(word for text in texts for word in re.findall(PATTERN, text)))


def _some(recipe: Recipe) -> list[Pair]:
    rng = random.Random(0)
    return [recipe.write(rng, template, recipe.words) for template in recipe.templates]


def _prompts(tokenizer: Any, seed: int, size: int) -> Iterator[Int32[np.ndarray, "pos"]]:
    """Sentences as tokens, each cut to the context."""
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    stream = sentences(seed)
    while True:
        for ids in encoded(tokenizer, list(islice(stream, AT_ONCE))):
            yield np.array([*first, *ids][:size], dtype=np.int32)
