"""Small tokenizers of the three kinds that models have, made from the tasks' own words."""

from __future__ import annotations

import re
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sae_circuits import tasks
from sae_circuits.tasks.recipes import literal
from sae_circuits.tasks.words import forms

BOS, UNKNOWN = "<s>", "<unk>"


@cache
def words() -> tuple[str, ...]:
    """Every word and sign of every template and list."""
    recipes = [tasks.recipe(name) for name in tasks.names()]
    texts = [literal(template) for recipe in recipes for template in recipe.templates]
    texts += [form for r in recipes for entries in r.words.values() for form in forms(entries)]
    texts += ["is was has are were have"]
    return tuple(dict.fromkeys(re.findall(r"[^\W\d]+|[^\w\s]", " ".join(texts))))


def word_level(known: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """One token a word, a sign, or two digits, as the bundled model's tokenizer has them."""
    digits = tuple(f"{i:02}" for i in range(100))
    vocabulary = {word: i for i, word in enumerate((BOS, UNKNOWN, *(known or words() + digits)))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\d{2}|[^\W\d]+|[^\w\s]"), behavior="removed", invert=True
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BOS, unk_token=UNKNOWN)


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """A byte-level BPE like GPT-2's, which has a word after a space as another token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    corpus = [f"{word} {word}" for word in words() for _ in range(20)]
    corpus += [f"{i:02}" for i in range(100) for _ in range(50)]
    corpus += [f" {i}" for i in range(11, 19) for _ in range(500)]  # merged before "48" is
    corpus += [" 1280"] * 200  # GPT-2 has such years whole, too
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        min_frequency=15,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[BOS],
        show_progress=False,
    )
    core.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BOS, unk_token=BOS)


@cache
def sentence_piece() -> PreTrainedTokenizerFast:
    """A unigram tokenizer like Llama's: a mark stands for the space, digits stand alone."""
    letters = sorted({letter for word in words() for letter in word} | set("0123456789\n▁"))
    pieces = [(BOS, 0.0), (UNKNOWN, 0.0), *((letter, -10.0) for letter in letters)]
    pieces += [(f"▁{word}", -5.0) for word in words()]
    core = Tokenizer(models.Unigram(pieces, unk_id=1))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BOS, unk_token=UNKNOWN)
