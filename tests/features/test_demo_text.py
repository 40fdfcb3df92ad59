"""Text in the language of the bundled model."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

import sae_circuits as sc
from sae_circuits import tasks
from sae_circuits.errors import CorpusError, OptionError
from sae_circuits.features.demo_text import SHARES, all_words, repeats, sentences
from sae_circuits.models.small import random_model
from small_tokenizers import byte_level


@pytest.fixture(scope="module")
def demo():
    return sc.load_model("demo")


@pytest.fixture(scope="module")
def corpus(demo):
    return sc.demo_corpus(30_000, model=demo)


def skeleton(template: str) -> re.Pattern[str]:
    """What a template's sentences look like."""
    parts = re.split(r"\{[^}]*\}", template)
    return re.compile(r"[\w' ]+".join(map(re.escape, parts)) + r"\s?\w+")


SKELETONS = {
    name: [skeleton(template) for template in tasks.recipe(name).templates]
    for name in tasks.DEMO
    if name != "induction"
}


def tasks_of(sentence: str) -> list[str]:
    """The tasks that have such a sentence; of words that come again, those that have no other."""
    found = [name for name, each in SKELETONS.items() if any(s.fullmatch(sentence) for s in each)]
    return found or ["induction"]


@pytest.mark.parametrize("size", [1, 2, 33, 999, 12_345])
def test_a_longer_corpus_begins_with_the_shorter_one(demo, corpus, size):
    some = sc.demo_corpus(size, model=demo)
    assert some.n_tokens == size
    assert np.array_equal(some.tokens, corpus.tokens[:size])
    assert np.array_equal(some.starts[:-1], corpus.starts[: some.n_prompts])


def test_the_seed_decides(demo, corpus):
    assert sc.demo_corpus(500, seed=1, model=demo).fingerprint == sc.demo_corpus(500, 1).fingerprint
    assert sc.demo_corpus(500, seed=1).fingerprint != corpus[:20].fingerprint
    first = [corpus.text(corpus.prompt(i)[1:]) for i in range(2, 5)]
    assert first == [  # as they were first written: other ones would be another corpus
        "I know that the capital city of Cuba is Havana",
        "We know that the opposite of the word clean is dirty",
        "I know that the strike ran from the year 17 45 to 17 59",
    ]


def test_every_prompt_fits_the_model_and_all_of_it_is_known(demo, corpus):
    assert corpus.longest == 32 == demo.cfg.n_ctx
    begins = np.zeros(corpus.n_tokens, dtype=bool)
    begins[corpus.starts[:-1]] = True
    assert np.array_equal(corpus.vocabulary.is_special[corpus.tokens], begins)
    assert set(corpus.tokens[~begins].tolist()) == set(range(3, 553))  # every word of them
    assert [corpus.vocabulary[i] for i in range(3, 553)] == all_words()


def test_every_sentence_of_every_task_comes_as_often_as_in_training():
    n, said = 20_000, list(islice(sentences(0), 20_000))
    found = Counter(name for sentence in said for name in tasks_of(sentence))
    assert found.total() == n  # each is a sentence of one task
    for name, share in SHARES.items():
        assert abs(found[name] - n * share) < 5 * np.sqrt(n * share * (1 - share))
    for each in SKELETONS.values():
        for template in each:
            assert any(template.fullmatch(sentence) for sentence in said)


def test_the_answers_are_right(demo):
    """The model, which knows its tasks, expects them."""
    said = [s for s in islice(sentences(3), 400) if tasks_of(s) == ["ioi"]]
    rows = [sc.Corpus.from_texts(sentence, demo).tokens for sentence in said]
    right = [demo(torch.tensor(row[None, :-1]).long())[0, -1].argmax() == row[-1] for row in rows]
    assert len(right) > 70
    assert sum(map(bool, right)) / len(right) > 0.97


def test_repeats_are_of_pieces_that_came_before():
    for seed in range(20):
        said, known = repeats(random.Random(seed), range(500), 32)
        assert len(said) == len(known) >= 32
        assert not known[0]
        assert any(known)
        for i in range(1, len(said)):
            if known[i]:  # this word follows the one before it somewhere earlier
                assert (said[i - 1], said[i]) in pairwise(said[:i])


def test_another_tokenizer_writes_it_too():
    tokenizer = byte_level()
    corpus = sc.demo_corpus(2000, model=tokenizer)
    assert (corpus.n_tokens, corpus.longest) == (2000, 32)
    assert corpus.text(corpus.prompt(2)) == "<s>I know that the capital city of Cuba is Havana"


def test_what_makes_no_corpus():
    with pytest.raises(OptionError, match="n_tokens=0: ask for at least one"):
        sc.demo_corpus(0)
    with pytest.raises(CorpusError, match="HookedTransformer has no tokenizer"):
        sc.demo_corpus(5, model=random_model())
