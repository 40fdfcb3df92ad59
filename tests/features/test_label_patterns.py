"""Patterns are found in the text of prompts and carried back to their tokens."""

from __future__ import annotations

import numpy as np
import pytest

from activity import made_of
from made_corpus import activity_of, firing, sentences, text_corpus
from sae_circuits.errors import OptionError, UnknownName
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.labels import PATTERNS, Ground, Pattern, label


def found(name: str | Pattern, *prompts: list[str]) -> list[str]:
    """The texts of the tokens that a pattern finds."""
    corpus = text_corpus(*prompts)
    pattern = name if isinstance(name, Pattern) else PATTERNS[name]
    places = np.flatnonzero(Ground(corpus).matching(pattern))
    return [corpus.vocabulary[int(token)] for token in corpus.tokens[places]]


def cut(text: str) -> list[str]:
    """Tokens between strokes."""
    return text.split("|")


SENTENCE = cut("The| un|happy| NASA| team| sent| Mr|.| McCoy| a|n| 1|,|000| iPhone|s|,| I| think")
SENTENCE += cut(" at| 12|th|!?|\n|\n\n")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("article", ["The", " a", "n"]),  # " a" and "n" are the word "an"
        ("upper case", [" NASA"]),
        ("capitalised", ["The", " Mr", " McCoy", " I"]),
        ("number", [" 1", ",", "000", " 12"]),
        ("punctuation", [".", ",", ",", "!?"]),
        ("white space", ["\n", "\n\n"]),
        ("pronoun", [" I"]),
        ("preposition", [" at"]),
        ("code keyword", []),
    ],
)
def test_kinds_of_words(name, expected):
    assert found(name, SENTENCE) == expected


def test_a_leading_space_and_case_make_no_difference_to_words():
    every = [" The", " THE", " the"]
    assert found("article", ["the", *every], ["the", " other", " than"]) == ["the", *every, "the"]
    assert found("article", [" ban", "the", "m"]) == []


def test_upper_case_is_not_found_in_lower_case_words():
    assert found("upper case", [" upper", "case", " Up", " up", " uPPER"]) == []
    assert found("upper case", ["N", "ASA", " USA", " É", "TÉ"]) == ["N", "ASA", " USA", " É", "TÉ"]


def test_things_of_several_tokens_are_found_in_the_text():
    mail = cut("write| to| (|ada|.|l|@|ex|ample|.org|).| Thanks|@|x")
    assert found("e-mail", mail) == cut("ada|.|l|@|ex|ample|.org")
    web = cut("see| https|://|a.b|/c|?d|=e| or| www|.x|.y| not| http")
    assert found("URL", web) == cut(" https|://|a.b|/c|?d|=e| www|.x|.y")
    dates = cut("on| 2024|-|02|-|29|,| March| 3|,| 2020| or| 4| May| may| 1|/|2|/|24| 1|/|2")
    assert found("date", dates) == cut(" 2024|-|02|-|29| March| 3|,| 2020| 4| May| 1|/|2|/|24")


def test_no_match_runs_over_the_end_of_a_prompt():
    assert found("number", ["1", "2"], ["3"]) == ["1", "2", "3"]
    joined = Pattern("joined", "ab", "any")
    assert found(joined, [" a"], ["b"]) == []
    assert found(joined, [" a", "b"], ["b"]) == [" a", "b"]


def test_words_of_a_vocabulary_of_words_are_set_apart_and_special_tokens_are_no_text():
    texts = "<|end|>", "Then", "the", "cat", "."
    corpus = Corpus.of_prompts([[0, 1, 2, 3, 4]], Vocabulary(texts, frozenset([0]), gap=" "))
    ground = Ground(corpus)
    places = {name: np.flatnonzero(ground.matching(p)).tolist() for name, p in PATTERNS.items()}
    assert places["article"] == [2]
    assert places["capitalised"] == [1]
    assert places["punctuation"] == [4]
    assert places["white space"] == []


def test_keywords_of_code_are_those_of_their_case():
    assert found("code keyword", ["def", " f", "(", "x", "):", "\n", "return", " None"]) == [
        "def", "return", " None"
    ]  # fmt: skip
    assert found("code keyword", ["Return", " of", " NULL", " classes"]) == []


def test_planted_kinds_are_named_and_tested():
    corpus = sentences(without=["an", "12"])  # no word runs on into the next token
    on = {
        "article": ("the", "a", "an"),
        "number": ("7", "1984", "12"),
        "punctuation": (".", ",", "!"),
        "white space": ("",),
        "upper case": ("nasa",),
        "pronoun": ("he", "it"),
        "preposition": ("of", "in"),
        "capitalised": None,
    }
    features = [
        firing(corpus, lambda t, i, w=words: t[i].strip().lower() in w)
        if words is not None
        else firing(corpus, lambda t, i: t[i].strip()[:1].isupper() and not t[i].isupper())
        + firing(corpus, lambda t, i: t[i] == " A")
        for words in on.values()
    ]
    labels = label(activity_of(corpus, *features), "patterns")
    assert [one.text for one in labels] == list(on)
    assert {(one.precision, one.recall, one.shown) for one in labels} == {(1.0, 1.0, True)}


def test_regexes_of_ones_own_by_name():
    corpus = sentences()
    ends = firing(corpus, lambda t, i: t[i] in (" dog", " big", " York's"))
    custom = {"has a g": "g"}
    (one,) = label(activity_of(corpus, ends), "patterns", patterns={"custom": custom})
    assert (one.text, one.precision, one.recall) == ("has a g", 1.0, 1.0)
    assert one.provenance["regex"] == "g"


def test_bad_patterns_are_refused_before_any_work():
    corpus = text_corpus(["a", " b"], [" b", "a"])
    activity = made_of(corpus, np.ones((4, 1)))
    with pytest.raises(OptionError, match=r"'odd' does not compile: '\(': missing \)"):
        label(activity, "patterns", patterns={"custom": {"odd": "("}})
    with pytest.raises(OptionError, match="'number' already"):
        label(activity, "patterns", patterns={"custom": {"number": "x"}})
    with pytest.raises(UnknownName, match="did you mean 'article'"):
        label(activity, "patterns", patterns={"only": ["articles"]})
