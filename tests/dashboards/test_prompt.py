"""The view of a prompt: each ranking against the scores of one position, and odd prompts."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch

import sae_circuits as sc
from sae_circuits.dashboards.prompt import EXAMPLES, LIKELY, TITLE, token_ids
from sae_circuits.errors import (
    FileFormatError,
    MetricError,
    OptionError,
    StoreError,
    TaskError,
    UnknownName,
)
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.effects import prompt_scores
from sae_circuits.features.effects.on_prompt import OnPrompt
from small_stores import model, planted, sae, store

TEXT = "When Mary and John went to the store"
PROMPT = [0, 5, 9, 5, 31, 7]
SIGNED = ("loss effect", "logit effect", "attribution")


@cache
def demo():
    """A store of the bundled model."""
    own, (dictionary,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
    return sc.FeatureDictionary.build(own, dictionary, sc.demo_corpus(5_000))


@cache
def demo_view():
    return sc.PromptView.build(
        demo(), TEXT, metric="logit_diff", answer="Mary", wrong=["John", "Anna"]
    )


def small_view(prompt=PROMPT, **options):
    return sc.PromptView.build(store(), prompt, **options)


def ranked(values, k=10, sign=-1):
    """Ids and values by size, ties by the lower id; what is undefined is left out."""
    known = [(f, x) for f, x in values.items() if not np.isnan(x)]
    return sorted(known, key=lambda one: (sign * one[1], one[0]))[:k]


def same(found, expected):
    """Whether a ranking is this one, but for the order of values that differ by rounding alone."""
    assert found.values == pytest.approx([x for _, x in expected], rel=1e-5, abs=1e-6)
    by_id = dict(zip(found.ids, found.values, strict=True))
    assert len(by_id) == len(expected)
    for f, x in expected:
        if f in by_id:
            assert by_id[f] == pytest.approx(x, rel=1e-5, abs=1e-6)


# -- what is ranked ------------------------------------------------------------------------------


def test_each_position_is_that_of_the_scores_of_one_position():
    view, source = demo_view(), demo().source
    assert [s.name for s in view.scores if s.token is None] == [
        "activation", "quantile", "loss effect", "logit effect", "attribution",
    ]  # fmt: skip
    for p in range(len(view.tokens)):
        table = prompt_scores(source.adapter.model, source.dictionary, TEXT, p, demo().activations)
        for name, column in (
            ("activation", "activation"), ("quantile", "quantile_of_counted"),
            ("loss effect", "loss_effect"),
        ):  # fmt: skip
            values = dict(zip(table["feature"], table[column], strict=True))
            score = view.score(name)
            same(score.features[p], ranked(values))
            if name in SIGNED:
                same(score.lowest[p], ranked(values, sign=1))
    assert view.score("loss effect").features[-1].ids == ()
    assert any(view.score("loss effect").features[2].ids)


def test_logit_effects_and_attributions_are_those_of_the_computation():
    view, source = demo_view(), demo().source
    found = OnPrompt.of(source.adapter.model, source.dictionary, TEXT)
    positions, features = found.positions.numpy(), found.features.numpy()
    after = view.score("logit effect")
    for token in {score.token for score in view.scores} - {None}:
        score, effects = view.score("logit effect", token), found.logit_effects([token])[:, 0]
        for p in range(len(view.tokens)):
            own = positions == p
            values = dict(zip(features[own].tolist(), effects[own].tolist(), strict=True))
            same(score.features[p], ranked(values))
            same(score.lowest[p], ranked(values, sign=1))
            if p + 1 < len(view.tokens) and view.tokens[p + 1] == token:
                assert after.features[p] == score.features[p]
    assert after.features[-1].ids == ()


def test_attribution_adds_up_and_says_what_it_is_to():
    own, (dictionary,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
    view = sc.PromptView.build(
        demo(), TEXT, metric="logit_diff", answer="Mary", wrong="John", k=256
    )
    score = view.score("attribution")
    assert "logit_diff ('Mary' against 'John')" in score.said
    words = demo().corpus.vocabulary.texts
    tokens = torch.tensor([view.tokens])
    task = sc.Task.from_tokens(
        tokens, tokens, answer=torch.tensor([words.index("Mary")]),
        wrong=torch.tensor([words.index("John")]),
    )  # fmt: skip
    graph = sc.TensorGraph.from_model(own, saes=[dictionary])
    nodes = sc.attribute_nodes(
        own, graph, task, metric="logit_diff", method="eap", intervention="zero"
    )
    start, block = next(v for v in graph.src_starts.values() if v[1].kind == "feature")
    total = sum(x for at in score.features for x in at.values)
    assert total == pytest.approx(-float(nodes.values[start : start + len(block)].sum()), rel=1e-4)


def test_all_that_ranked_features_do_stands_beside_them():
    view = demo_view()
    for p, here in enumerate(view.active):
        assert set(here.values) == {"activation", "quantile", "loss effect", "attribution"}
        for score in view.scores:
            assert set(score.features[p].ids) <= set(here.ids)
            if score.name != "logit effect":
                own = dict(zip(here.ids, here.values[score.name], strict=True))
                for f, x in zip(score.features[p].ids, score.features[p].values, strict=True):
                    assert own[f] == x
    last = view.active[-1].values["loss effect"]
    assert last
    assert set(last) == {None}
    profiles = {profile.feature: profile for profile in view.view.profiles}
    assert set(profiles) == {f for here in view.active for f in here.ids}
    assert all(len(g.windows) <= EXAMPLES for one in profiles.values() for g in one.groups)
    assert {g.kind for one in profiles.values() for g in one.groups} == {"top"}


def test_tokens_to_choose_from_are_the_likely_ones_and_the_prompts_own():
    view = demo_view()
    chosen = [score.token for score in view.scores if score.name == "logit effect"]
    assert chosen[0] is None
    assert chosen[1 : LIKELY + 1] == list(view.likely.ids)
    assert set(chosen[1:]) == {*view.likely.ids, *view.tokens[1:]}
    own = sc.PromptView.build(demo(), TEXT, tokens=["Mary", 5], scores=["logit effect"])
    words = demo().corpus.vocabulary.texts
    assert [score.token for score in own.scores] == [None, words.index("Mary"), 5]
    assert repr("Mary") in own.scores[1].said
    logits = demo().source.adapter.model(torch.tensor([view.tokens]))[0].softmax(-1)
    assert view.likely.values == pytest.approx(logits[-1].topk(LIKELY).values.tolist(), rel=1e-4)
    before = logits[:-1].gather(1, torch.tensor(view.tokens[1:])[:, None])[:, 0]
    assert view.probabilities[0] is None
    assert view.probabilities[1:] == pytest.approx(before.tolist(), rel=1e-3)


def test_texts_are_there_for_all_that_is_shown_and_the_title_is_the_prompt():
    view = demo_view()
    assert [view.view.texts[t] for t in view.tokens] == ["<|endoftext|>", *TEXT.split()]
    assert view.special == (view.tokens[0],)
    assert view.view.about.title == TEXT
    long = sc.PromptView.build(demo(), " and ".join([TEXT] * 3), scores=["activation"], k=1)
    assert len(long.view.about.title) == TITLE
    shown = {t for score in view.scores if score.token for t in [score.token]}
    shown |= {
        t for one in view.view.profiles for g in one.groups for w in g.windows for t in w.tokens
    }
    assert shown <= set(view.view.texts)


# -- odd prompts ---------------------------------------------------------------------------------


def test_with_and_without_the_token_that_begins_a_sequence():
    with_bos, without = (
        sc.PromptView.build(demo(), TEXT, prepend_bos=bos, scores=["activation"])
        for bos in (True, False)
    )
    assert with_bos.tokens[1:] == without.tokens
    assert (len(with_bos.special), without.special) == (1, ())
    assert len(without.active) == len(without.tokens) == len(TEXT.split())
    assert with_bos.score("activation").features[1:] != without.score("activation").features


def test_a_prompt_of_one_token_and_ties_and_k_beyond_the_dictionary():
    view = small_view([5], metric="cross_entropy", answer=3, k=1000)
    assert view.probabilities == (None,)
    assert view.score("loss effect").features[0].ids == ()
    assert view.score("logit effect").features[0].ids == ()
    found = view.score("activation").features[0]
    assert 0 < len(found) <= 9
    assert list(found.values) == sorted(found.values, reverse=True)
    assert len(view.score("attribution").features[0]) == len(found)
    assert len(view.score("logit effect", view.likely.ids[0]).features[0]) == len(found)


def test_ties_go_by_the_lower_id():
    own = sc.load_saes(sae())[0]
    same_all = sc.Dictionary(**{**vars(own), "W_enc": own.W_enc[:, :1].repeat(1, 9),
                                "b_enc": own.b_enc[:1].repeat(9) + 5})  # fmt: skip
    tied = sc.FeatureDictionary.build(model(), same_all, store().corpus)
    view = sc.PromptView.build(tied, PROMPT, k=4)
    for name in ("activation", "quantile"):
        filled = [at.ids for at in view.score(name).features if at.ids]
        assert filled
        assert set(filled) == {(0, 1, 2, 3)}


def test_a_prompt_without_an_active_feature_has_positions_and_no_features(tmp_path):
    own = sc.load_saes(sae())[0]
    quiet = sc.Dictionary(**{**vars(own), "b_enc": own.b_enc - 1000})
    features = sc.FeatureDictionary.build(model(), quiet, store().corpus)
    view = sc.PromptView.build(features, PROMPT, metric="cross_entropy", answer=3)
    assert view.view.profiles == ()
    assert all(at.ids == () for score in view.scores for at in (*score.features, *score.lowest))
    assert [at.ids for at in view.active] == [()] * len(PROMPT)
    assert sc.PromptView.load(view.save(tmp_path / "view.json")) == view


def test_what_is_not_active_on_the_prompt_never_ranks():
    view, source = small_view(k=100), store().source
    found = OnPrompt.of(source.adapter.model, source.dictionary, torch.tensor(PROMPT))
    for p in range(len(PROMPT)):
        active = set(found.at(p).features.tolist())
        assert 0 < len(active) < 9
        for score in view.scores:
            assert set(score.features[p].ids) <= active
            assert 0 not in score.features[p].values or score.name != "activation"


def test_tokens_from_hell_are_kept_as_they_are(tmp_path):
    texts = ("<s>", "</script>", "<!--", "\n", "", "\u2028", "<0xF0>", "שלום", "`${x}`", "&amp;")
    texts += tuple(f"w{i}" for i in range(30))
    plain = store().corpus
    corpus = Corpus(plain.tokens, plain.starts, Vocabulary(texts, frozenset([0])), "hell")
    features = sc.FeatureDictionary.build(model(), sae(), corpus)
    view = sc.PromptView.build(features, list(range(10)), tokens=["</script>", ""])
    assert [view.view.texts[t] for t in view.tokens] == list(texts[:10])
    assert [s.token for s in view.scores if s.name == "logit effect"] == [None, 1, 4]
    assert sc.PromptView.load(view.save(tmp_path / "view.json")) == view


def test_a_feature_that_is_dead_on_the_corpus_ranks_where_the_prompt_has_it():
    own = store().corpus
    features = sc.FeatureDictionary.build(model(), sae(), own[1:2])
    dead = set(features.query("SELECT feature FROM features WHERE n_active = 0")["feature"])
    view = sc.PromptView.build(features, PROMPT, k=9)
    here = {f for at in view.active for f in at.ids}
    assert here & dead
    kinds = {one.feature: one.statistics["type"] for one in view.view.profiles}
    assert all((kinds[f] == "dead") == (f in dead) for f in here)


# -- files ---------------------------------------------------------------------------------------


def test_a_view_comes_back_from_its_file_as_it_was(tmp_path):
    view = demo_view()
    path = view.save(tmp_path / "prompt.json")
    again = sc.PromptView.load(path)
    assert again == view
    assert again.save(tmp_path / "again.json").read_bytes() == path.read_bytes()
    with pytest.raises(FileFormatError, match="no FeatureView"):
        sc.FeatureView.load(path)
    with pytest.raises(FileFormatError, match="no PromptView"):
        sc.PromptView.load(view.view.save(tmp_path / "features.json"))
    said = json.loads(path.read_text())
    del said["tokens"]
    (tmp_path / "broken.json").write_text(json.dumps(said))
    with pytest.raises(FileFormatError, match="tokens"):
        sc.PromptView.load(tmp_path / "broken.json")


# -- what is refused -----------------------------------------------------------------------------


def test_what_cannot_be_ranked_is_refused_with_the_remedy(tmp_path):
    saved = store().save(tmp_path / "store")
    with pytest.raises(StoreError, match=r"load\(folder, model, sae\)"):
        sc.PromptView.build(sc.FeatureDictionary.load(saved.folder), PROMPT)
    with pytest.raises(StoreError, match="HeldSource"):
        sc.PromptView.build(planted(), PROMPT)
    with pytest.raises(UnknownName, match="'loss effect'"):
        small_view(scores=["loss efect"])
    with pytest.raises(OptionError, match="k is 0"):
        small_view(k=0)
    with pytest.raises(OptionError, match="metric='logit_diff'"):
        small_view(scores=["attribution"])
    with pytest.raises(OptionError, match="metric='logit_diff'"):
        small_view(answer=3)
    with pytest.raises(OptionError, match="give answer="):
        small_view(metric="logit_diff")
    with pytest.raises(OptionError, match="give wrong="):
        small_view(metric="logit_diff", answer=3)
    with pytest.raises(UnknownName, match="metric"):
        small_view(metric="logit_dif")
    with pytest.raises(MetricError, match="no gradient"):
        small_view(metric="kl")
    with pytest.raises(UnknownName, match="unknown token ' w99'"):
        small_view(tokens=" w99")
    with pytest.raises(UnknownName, match="no token 40"):
        small_view(tokens=[40])
    with pytest.raises(TaskError, match="at least one"):
        small_view(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(UnknownName, match="unknown score"):
        small_view().score("attribution")


def test_a_metric_of_ones_own_is_attributed():
    def own(logits, targets):
        return logits[:, 7] * 2

    found, plain = (small_view(metric=own, k=9), small_view(tokens=[7], k=9))
    assert "own at the prompt's last token" in found.score("attribution").said
    assert found.score("activation") == plain.score("activation")
    assert any(at.ids for at in found.score("attribution").features)


def test_tokens_are_found_by_what_they_read():
    words = Vocabulary(("<s>", "Mary", " the", "the"), frozenset([0]), gap=" ")
    assert token_ids(" Mary", words) == [1]
    assert token_ids([" the", "the", 1, 1], words) == [2, 3, 1]
    with pytest.raises(UnknownName, match="known: Mary"):
        token_ids("Mary ", Vocabulary(("<s>", "Mary")))
