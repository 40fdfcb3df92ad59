"""Which tokens count."""

from __future__ import annotations

import json

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_circuits.errors import CorpusError, OptionError
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.masks import Masks
from sae_circuits.features.vocabulary import Vocabulary

WORDS = Vocabulary(("<s>", " the", "the", "cup", "Cup"), frozenset({0}))
TWO = Corpus.of_prompts([[0, 1, 2, 3, 4, 1], [0, 3, 3]], WORDS, "two")


def counts(corpus: Corpus = TWO, **masks: object) -> str:
    return "".join("x" if each else "." for each in Masks(**masks).counted(corpus))


def test_what_each_mask_leaves():
    assert counts() == ".xxxxx.xx"
    assert counts(special=True) == "xxxxxxxxx"
    assert counts(skip_tokens=["the", 4]) == ".x.x.x.xx"
    assert counts(skip_positions=[1]) == "..xxxx..x"
    assert counts(skip_positions=[4]) == ".xxx.x.xx"  # the second prompt has none
    assert counts(skip_positions=[-1]) == ".xxxx..x."
    assert counts(skip_positions=[-5]) == "..xxxx.xx"
    assert counts(special=True, skip_positions=[0, -1]) == ".xxxx..x."
    assert counts(Corpus.of_prompts([[0], [3]], WORDS)) == ".x"  # prompts of one token
    assert counts(Corpus.of_prompts([[0], [3]], WORDS), skip_positions=[0, -1]) == ".."


def test_a_text_means_all_tokens_that_read_so():
    twice = Vocabulary(("a", "b", "a"))
    assert counts(Corpus.of_prompts([[0, 1, 2]], twice), skip_tokens=["a"]) == ".x."


prompts = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=4)


@given(
    rows=prompts,
    special=st.booleans(),
    tokens=st.lists(st.sampled_from([0, 1, 2, 3, 4, "cup", " the"]), max_size=3),
    data=st.data(),
)
def test_masks_agree_with_a_loop_over_prompts(rows, special, tokens, data):
    longest = max(map(len, rows))
    positions = data.draw(st.lists(st.integers(-longest, longest - 1), max_size=3))
    named = {WORDS.texts.index(token) if isinstance(token, str) else token for token in tokens}
    expected = [
        (special or token != 0)
        and token not in named
        and pos not in positions
        and pos - len(row) not in positions
        for row in rows
        for pos, token in enumerate(row)
    ]
    masks = Masks(special, tokens, positions)
    assert masks.counted(Corpus.of_prompts(rows, WORDS)).tolist() == expected


def test_norms_beyond_the_limit_do_not_count():
    norms = np.array([[0.0, 3.0], [3.5, 1e9]], dtype=np.float32)
    assert Masks(max_norm=3).within(norms).tolist() == [[True, True], [False, False]]
    assert Masks().within(norms).all()


def test_the_record_is_the_same_whatever_the_order():
    one = Masks(skip_tokens=["the", 4, 1, "the"], skip_positions=[-1, 0, 0], max_norm=2)
    other = Masks(skip_tokens=(1, "the", 4), skip_positions=(0, -1), max_norm=2.0)
    assert one == other
    assert one.record == {
        "special": False,
        "skip_tokens": (1, 4, "the"),
        "skip_positions": (-1, 0),
        "max_norm": 2.0,
    }
    assert Masks(**json.loads(json.dumps(one.record))) == one
    assert one.fingerprint == other.fingerprint == "b2853d81d81d500c"  # as it was first written
    others = [
        Masks(),
        Masks(special=True),
        Masks(skip_tokens=[1]),
        Masks(skip_tokens=["1"]),
        Masks(skip_positions=[1]),
        Masks(max_norm=1.0),
    ]
    assert len({each.fingerprint for each in others}) == 6


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"skip_tokens": "the"}, r"skip_tokens='the': give a list, such as \['the'\]"),
        ({"skip_positions": 0}, "skip_positions=0: give a list"),
        ({"skip_tokens": [1.5]}, "skip_tokens holds 1.5: give whole numbers or texts"),
        ({"skip_positions": ["0"]}, "skip_positions holds '0': give whole numbers$"),
        ({"skip_positions": [True]}, "skip_positions holds True"),
        ({"max_norm": 0.0}, "max_norm=0.0: give a positive number"),
        ({"max_norm": float("nan")}, "max_norm=nan"),
        ({"max_norm": float("inf")}, "max_norm=inf"),
    ],
)
def test_masks_that_make_no_sense(masks, said, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse some first
    with pytest.raises(OptionError, match=said):
        Masks(**masks)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (Masks(skip_tokens=[5]), "the id 5: the vocabulary has ids 0 to 4"),
        (Masks(skip_tokens=[-1]), "the id -1"),
        (Masks(skip_tokens=["CUP"]), "'CUP', and .* reads so: did you mean 'cup' or 'Cup'?"),
        (Masks(skip_tokens=["saucer"]), "'saucer', and no token .* reads so; take one's id"),
        (Masks(skip_positions=[6]), "6, which no prompt has: the longest one has 6 tokens"),
        (Masks(skip_positions=[-7]), "-7, which no prompt has"),
    ],
)
def test_masks_that_do_not_fit_the_corpus(masks, said):
    with pytest.raises(CorpusError, match=said.replace("?", r"\?")):
        masks.counted(TWO)
