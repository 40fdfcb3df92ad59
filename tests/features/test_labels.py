"""Labels of planted features: their words, and their precision and recall on held-out prompts."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from activity import made_of
from made_corpus import ANIMALS, BOS, ID, WORDS, activity_of, firing, sentences, text_corpus
from sae_circuits.errors import CorpusError, NumericalError, OptionError, UnknownName
from sae_circuits.features.labels import Label, Proposal, Strategy, label, labels_table, strategies
from sae_circuits.features.labels.parts import held_out

CORPUS = sentences()
ARTICLES = {word for word in WORDS if word.strip().lower() in ("the", "a", "an")}


def on(*words):
    return firing(CORPUS, lambda texts, i: texts[i] in words)


def only(labels: list[Label]) -> Label:
    (one,) = labels
    return one


def by_hand(dense: np.ndarray, predicted: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and base rate on the held-out prompts, prompt by prompt."""
    hits = n_predicted = n_active = n = 0
    for i in np.flatnonzero(held_out(CORPUS)):
        for place in range(CORPUS.starts[i], CORPUS.starts[i + 1]):
            if CORPUS.tokens[place] == ID[BOS]:
                continue
            active = dense[place] != 0
            n, n_active = n + 1, n_active + active
            n_predicted += predicted[place] != 0
            hits += bool(active and predicted[place] != 0)
    return hits / n_predicted, hits / n_active, n_active / n


def test_tokens_of_a_feature_are_named_with_their_variants_and_foretell_it():
    found = only(label(activity_of(CORPUS, on(*ARTICLES)), "tokens"))
    assert sorted(found.text.replace(" or", ",").split(", ")) == ['"a"', '"an"', '"the"']
    # " THE" and "the" are in no prompt: nothing speaks against them
    assert {WORDS[i] for i in found.provenance["ids"]} == ARTICLES
    assert (found.precision, found.recall, found.score, found.shown) == (1.0, 1.0, 1.0, True)
    assert found.base_rate == by_hand(on(*ARTICLES), on(*ARTICLES))[2]


def test_precision_and_recall_are_those_counted_by_hand():
    rng = np.random.default_rng(1)
    noisy = np.where(rng.random(CORPUS.n_tokens) < 0.7, on(" dog"), 0)
    noisy = np.maximum(noisy, rng.random(CORPUS.n_tokens) < 0.01).astype(np.float32)
    found = only(label(activity_of(CORPUS, noisy), "tokens"))
    assert found.text == '"dog"'
    precision, recall, base = by_hand(noisy, on(" dog"))
    assert (found.precision, found.recall, found.base_rate) == (precision, recall, base)
    assert found.score == pytest.approx(2 * precision * recall / (precision + recall))
    assert found.precision_interval[0] < precision < found.precision_interval[1]
    assert found.recall_interval[0] < recall < found.recall_interval[1]
    assert 0.5 < precision < 0.9


def test_case_matters_where_the_corpus_says_so():
    found = only(label(activity_of(CORPUS, on(" The")), "tokens"))
    assert found.text == '"The"'
    assert ID[" the"] not in found.provenance["ids"]
    assert found.precision == found.recall == 1.0
    bare = only(label(activity_of(CORPUS, on("an")), "tokens"))
    assert bare.text == '"an"'
    assert ID[" an"] not in bare.provenance["ids"]


def test_the_space_is_shown_where_it_is_what_matters():
    assert only(label(activity_of(CORPUS, on(" an")), "tokens")).text == '" an"'


def test_at_most_so_many_words_and_those_that_foretell_best():
    words = " runs", " sees", " red", " old", " big", " blue", " of"
    found = only(label(activity_of(CORPUS, on(*words)), "tokens", tokens={"most": 3}))
    assert len(found.provenance["ids"]) == 3
    assert {WORDS[i] for i in found.provenance["ids"]} < set(words)
    assert found.precision == 1.0
    assert found.recall == pytest.approx(3 / 7, abs=0.08)


def test_a_frequent_token_at_its_base_rate_is_no_label():
    rng = np.random.default_rng(0)
    half = (rng.random(CORPUS.n_tokens) < 0.5).astype(np.float32)
    names = "tokens", "ngrams", "patterns", "previous"
    assert [one for one in label(activity_of(CORPUS, half), names) if one.shown] == []
    assert label(activity_of(CORPUS, half), "tokens") == []


def test_features_that_fire_at_random_get_no_shown_label():
    rng = np.random.default_rng(0)
    dense = (rng.random((CORPUS.n_tokens, 150)) < rng.uniform(0.002, 0.2, 150)).astype(np.float32)
    activity = made_of(CORPUS, dense, CORPUS.tokens != 0, block=64)
    names = "tokens", "ngrams", "patterns", "previous"
    found = label(activity, names)
    assert len(found) < 0.1 * 150 * len(names)
    assert sum(one.shown for one in found) <= 1


def test_a_label_that_does_not_hold_on_other_prompts_is_kept_and_not_shown():
    held = held_out(CORPUS)[np.repeat(np.arange(len(CORPUS)), np.diff(CORPUS.starts))]
    moved = np.where(held, on(" cow"), on(" cat"))  # another word in the other half
    found = only(label(activity_of(CORPUS, moved), "tokens"))
    assert found.text == '"cat"'
    assert (found.precision, found.recall, found.score, found.shown) == (0.0, 0.0, 0.0, False)


def test_without_activity_to_test_on_what_is_undefined_is_none():
    held = held_out(CORPUS)[np.repeat(np.arange(len(CORPUS)), np.diff(CORPUS.starts))]
    dead = np.zeros(CORPUS.n_tokens, np.float32)
    gone, late = np.where(held, 0, on(" cat")), np.where(held, on(" cat"), 0)
    found = only(label(activity_of(CORPUS, dead, gone, late), ("tokens", "patterns", "ngrams")[:1]))
    assert (found.feature, found.precision, found.base_rate) == (1, 0.0, 0.0)
    assert (found.recall, found.recall_interval, found.score, found.shown) == (None,) * 3 + (False,)


def test_an_ngram_is_named_where_it_foretells_better_than_a_token():
    bigram = firing(CORPUS, lambda t, i: i > 0 and t[i - 1 : i + 1] == [" New", " York"])
    found = only(label(activity_of(CORPUS, bigram), "ngrams"))
    assert found.text == 'the end of "New York"'
    assert found.precision == found.recall == 1.0
    token = only(label(activity_of(CORPUS, bigram), "tokens"))
    assert token.text == '"York"'
    assert token.precision < 1.0 == token.recall
    assert only(label(activity_of(CORPUS, on(" York")), "ngrams")).text == '"York"'


def test_longer_ngrams_do_not_run_over_the_beginning_of_a_prompt():
    first = [" x", " of", " a", " b"], [" of", " a", " b", " x"]
    corpus = text_corpus(*(first * 10), *([[" b", " a", " of"], [" a", " b"]] * 10))
    ends = firing(corpus, lambda t, i: t[max(i - 2, 0) : i + 1] == [" of", " a", " b"])
    found = only(label(made_of(corpus, ends[:, None]), "ngrams"))
    assert (found.text, found.precision, found.recall) == ('the end of "of a b"', 1.0, 1.0)


def test_the_token_before():
    after = firing(CORPUS, lambda t, i: i > 0 and t[i - 1] in (" Mr", " Mrs"))
    found = only(label(activity_of(CORPUS, after), "previous"))
    assert found.text in ('after "Mr" or "Mrs"', 'after "Mrs" or "Mr"')
    assert found.precision == found.recall == 1.0


def test_a_cluster_of_embeddings_is_found_and_reaches_to_words_not_seen():
    rng = np.random.default_rng(0)
    texts = (*WORDS, " goat")  # in the vocabulary only
    embeddings = rng.standard_normal((len(texts), 32)).astype(np.float32)
    kind = rng.standard_normal(32)
    for i, text in enumerate(texts):
        if text in (*ANIMALS, " goat"):
            embeddings[i] = 3 * kind + 0.5 * embeddings[i]
    corpus = type(CORPUS)(CORPUS.tokens, CORPUS.starts, type(CORPUS.vocabulary)(texts))
    scattered = on(" runs", ".", " Mr", " 7", " of")
    activity = made_of(corpus, np.stack([on(*ANIMALS), scattered], 1))
    found = only(label(activity, "clusters", clusters={"embeddings": embeddings}))
    assert found.feature == 0
    assert sorted(found.text.removeprefix("tokens like ").replace(" or", ",").split(", ")) == [
        '"cat"', '"cow"', '"dog"', '"horse"'
    ]  # fmt: skip
    assert (found.precision, found.recall) == (1.0, 1.0)
    assert found.provenance["coherence"] > 0.8 > found.provenance["chance"]
    wider = {**{"embeddings": embeddings}, "named": 2}
    assert only(label(activity, "clusters", clusters=wider)).text.count('"') == 4


def test_promoted_tokens_are_tested_on_the_token_that_follows():
    before = firing(CORPUS, lambda t, i: i + 1 < len(t) and t[i + 1] in ANIMALS)
    effects = np.zeros((2, len(WORDS)), np.float32)
    effects[:, [ID[a] for a in ANIMALS]] = 4.0, 3.0, 2.0, 1.0
    activity = activity_of(CORPUS, before, on(" of"))
    right, wrong = label(activity, "logits", logits={"effects": effects, "top": 4, "named": 2})
    assert right.text == 'makes "cat" or "dog" likely'
    assert (right.precision, right.recall, right.shown) == (1.0, 1.0, True)
    assert wrong.text == right.text
    assert not wrong.shown

    top = np.array([[ID[a] for a in ANIMALS], [-1] * 4], np.int32)
    ends = SimpleNamespace(features=np.arange(2), top_tokens=top)  # the second has a zero row
    assert label(activity, "logits", logits={"effects": ends, "named": 2}) == [right]
    wide = SimpleNamespace(features=np.arange(1), top_tokens=np.array([[99]]))
    with pytest.raises(OptionError, match="promote token 99, and the corpus has"):
        label(activity, "logits", logits={"effects": wide})


def test_manual_texts_are_shown_as_they_stand():
    texts = {0: " names of people ", 2: "nothing"}
    activity = activity_of(CORPUS, on(" the"), on(" a"), on(" x"))
    found = label(activity, "manual", manual={"texts": texts, "author": "ada"})
    assert [(one.feature, one.text) for one in found] == [(0, "names of people"), (2, "nothing")]
    assert all(one.shown and one.precision is None and not one.tested for one in found)
    assert found[0].provenance["author"] == "ada"


def test_several_strategies_at_once_by_feature_and_the_best_first():
    activity = activity_of(CORPUS, on(*ARTICLES), on(" 7", "12", " 1984"), on(" dog"))
    found = label(activity, ("patterns", "tokens", "ngrams"))
    assert [one.feature for one in found] == sorted(one.feature for one in found)
    for feature in range(3):
        scores = [one.score for one in found if one.feature == feature]
        assert scores == sorted(scores, reverse=True)
    assert {one.text for one in found if one.strategy == "patterns"} >= {"article", "number"}
    said = label(activity, ("tokens", "manual"), [2], manual={"texts": {2: "dogs"}})
    assert [one.strategy for one in said] == ["manual", "tokens"]
    table = labels_table(found)
    assert list(table.columns[:4]) == ["feature", "text", "strategy", "score"]
    assert table.loc[0, "precision_low"] == found[0].precision_interval[0]
    assert len(table) == len(found)


def test_labels_do_not_hang_on_blocks_or_on_which_features_are_asked_for():
    rng = np.random.default_rng(0)
    some = [on(*rng.choice(WORDS, 3)) for _ in range(9)]
    dense = np.stack(some, 1)
    names = "tokens", "patterns", "ngrams", "previous"
    whole = label(made_of(CORPUS, dense, CORPUS.tokens != 0, block=9), names)
    assert whole == label(made_of(CORPUS, dense, CORPUS.tokens != 0, block=2), names)
    few = label(made_of(CORPUS, dense, CORPUS.tokens != 0), names, features=[7, 2, 7])
    assert few == [one for one in whole if one.feature in (2, 7)]
    assert len(few) > 2


def test_provenance_is_plain_and_time_is_said_and_not_compared():
    activity = activity_of(CORPUS, on(*ARTICLES))
    one, two = (only(label(activity, "tokens")) for _ in range(2))
    assert one == two
    assert one.time.endswith("+00:00")
    plain = json.loads(json.dumps(asdict(one), allow_nan=False))
    assert plain["provenance"]["test"]["predicted"] == plain["provenance"]["test"]["active"] > 0


def test_a_strategy_of_ones_own_is_a_value():
    def make(setting, *, word):
        ids = [ID[word]]

        def propose(columns):
            for feature in columns.features.tolist():
                yield Proposal(feature, f"only {word}", lambda part: part.ground.where(ids))

        return propose

    mine = Strategy("mine", make, options={"word": " dog"})
    activity = activity_of(CORPUS, on(" dog", " cat"))
    found = only(label(activity, mine))
    assert (found.text, found.strategy, found.precision) == ("only  dog", "mine", 1.0)
    assert found.recall == pytest.approx(0.5, abs=0.1)
    other = only(label(activity, [mine], mine={"word": " cow"}))
    assert (other.precision, other.shown) == (0.0, False)


N = len(WORDS)


@pytest.mark.parametrize(
    ("error", "message", "strategy", "options"),
    [
        (UnknownName, "did you mean 'most'", "tokens", {"mots": 1}),
        (OptionError, "most=0", "tokens", {"most": 0}),
        (OptionError, "1 to 4 tokens", "ngrams", {"lengths": (5,)}),
        (OptionError, "needs texts", "manual", {}),
        (OptionError, "is empty", "manual", {"texts": {0: " "}}),
        (UnknownName, "no feature 7: .* 0 to 0", "manual", {"texts": {7: "x"}}),
        (OptionError, "needs clusters=", "clusters", {}),
        (OptionError, rf"\({N}, d_model\)", "clusters", {"embeddings": np.ones((3, 2))}),
        (NumericalError, "token 0", "clusters", {"embeddings": np.full((N, 2), np.nan)}),
        (OptionError, "needs logits=", "logits", {}),
        (OptionError, rf"\(1, {N}\) is needed", "logits", {"effects": np.ones((1, 3))}),
        (NumericalError, "feature 0", "logits", {"effects": np.full((1, N), np.inf)}),
    ],
)
def test_options_that_cannot_be_are_refused_with_the_remedy(error, message, strategy, options):
    with pytest.raises(error, match=message):
        label(activity_of(CORPUS, on(" dog")), strategy, **{strategy: options})


def test_a_table_without_labels_has_their_columns():
    empty, full = (labels_table(label(activity_of(CORPUS, on(word)), "tokens"))
                   for word in (" nowhere", " dog"))  # fmt: skip
    assert not len(empty)
    assert list(empty.columns) == list(full.columns)


def test_what_cannot_be_labelled_is_refused_with_the_remedy():
    activity = activity_of(CORPUS, on(" dog"))
    for error, message, how in (
        (UnknownName, "did you mean 'tokens'", {"strategies": "token"}),
        (OptionError, "no strategy", {"strategies": ()}),
        (UnknownName, "no feature 1: there are 1, 0 to 0", {"features": [1]}),
        (OptionError, "not among tokens", {"strategies": "tokens", "manual": {"texts": {}}}),
    ):
        with pytest.raises(error, match=message):
            label(activity, **how)
    with pytest.raises(CorpusError, match="two or more"):
        label(made_of(CORPUS[:1], np.ones((24, 1))))
    with pytest.raises(CorpusError, match="no counted token"):
        label(made_of(CORPUS[:2], np.ones((48, 1)), np.arange(48) < 24))


def test_the_strategies_are_these():
    known = "tokens ngrams patterns previous clusters logits manual explainer neuronpedia"
    assert strategies() == tuple(known.split())
