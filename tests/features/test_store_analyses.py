"""What a store passes on to functions: its activations, its model, its dictionary."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import CorpusError, DictionaryError, OptionError, StoreError, UnknownName
from sae_circuits.features.analysis.comparison import compare
from sae_circuits.features.analysis.meanings import polysemantic, window_means
from sae_circuits.features.effects import (
    ablation_loss_effect,
    direct_loss_effect,
    prompt_scores,
)
from sae_circuits.features.sources import DictionarySource, HeldSource
from small_saes import random_sae
from small_stores import CONTENTS, HOOK, corpus, model, planted, sae, store

PROMPT = torch.tensor([0, 7, 3, 9, 4])


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return store(out=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def dictionary():
    return DictionarySource.of(model(), sae()).dictionary


def test_prompt_scores_have_the_quantiles_of_the_corpus(features, dictionary):
    found = features.prompt_scores(PROMPT, 2)
    want = prompt_scores(model(), dictionary, PROMPT, 2, features.activations)
    assert found.equals(want)
    assert found.quantile_of_active.between(0, 1).any()


def test_effects_on_the_loss_of_both_kinds(features, dictionary):
    found = features.prompt_scores(PROMPT, 2)
    feature, effect = int(found.feature[0]), float(found.loss_effect[0])
    direct = features.loss_effects(feature, PROMPT)
    assert direct[0, 3].item() == pytest.approx(effect)
    want = direct_loss_effect(model(), dictionary, feature, PROMPT)
    torch.testing.assert_close(direct, want, rtol=0, atol=0, equal_nan=True)
    some, mask = torch.stack([PROMPT, PROMPT]), torch.tensor([[1] * 5, [1] * 3 + [0] * 2]).bool()
    ablation = features.loss_effects(feature, some, "ablation", mask=mask, batch_size=1)
    want = ablation_loss_effect(model(), dictionary, feature, some, mask=mask)
    torch.testing.assert_close(ablation, want, equal_nan=True)
    assert ablation[1].isnan().tolist() == [True, False, False, True, True]
    assert not torch.equal(ablation[0, 1:], direct[0, 1:])


def test_two_stores_are_compared_as_their_dictionaries_are(features, dictionary):
    other = random_sae("standard", HOOK, model().cfg.d_model, 5, seed=3, dtype="float64")
    theirs = sc.FeatureDictionary.build(model(), other, corpus(), contents=CONTENTS)
    found = features.compare(theirs, least=0.1)
    second = DictionarySource.of(model(), other).dictionary
    both = (features.activations, theirs.activations)
    want = compare(dictionary, second, both, least=0.1)
    assert found.table.equals(want.table)
    assert found.matched_by_decoder == want.matched_by_decoder
    assert features.compare(features).matched_by_activity == 1


def test_contexts_are_embedded_by_the_models_own_embeddings(features):
    found = features.polysemantic([1, 2], contexts=20, most=3, seed=1)
    embed = window_means(model().W_E, features.activations)
    want = polysemantic(features.activations, embed, features=[1, 2], contexts=20, most=3, seed=1)
    assert found.equals(want)
    assert len(features.polysemantic(contexts=5, most=2)) == len(features)
    own = planted()
    places = own.polysemantic(["names"], embed=lambda corpus, places: places[:, None] * 1.0)
    assert places.contexts.tolist() == [5]


def test_without_the_model_it_is_said_how_to_have_it(features, tmp_path):
    loaded = sc.FeatureDictionary.load(features.folder)
    held = sc.FeatureDictionary.build(None, HeldSource(torch.ones(46, 2)), corpus())
    for some in (loaded, held):
        for ask in (
            lambda some=some: some.prompt_scores(PROMPT, 2),
            lambda some=some: some.loss_effects(1, PROMPT),
            lambda some=some: some.compare(features),
            lambda some=some: features.compare(some),
            lambda some=some: some.polysemantic([1]),
        ):
            with pytest.raises(StoreError, match=r"load\(folder, model, sae\)"):
                ask()
    again = sc.FeatureDictionary.load(features.folder, model(), sae())
    assert again.prompt_scores(PROMPT, 2).equals(features.prompt_scores(PROMPT, 2))


def test_what_is_asked_wrongly_is_refused(features):
    elsewhere = random_sae(
        "standard", "blocks.1.hook_mlp_out", model().cfg.d_model, 5, dtype="float64"
    )
    other = sc.FeatureDictionary.build(model(), elsewhere, corpus(), contents=CONTENTS)
    for ask, error, said in (
        (lambda: features.loss_effects(1, PROMPT, "indirect"), UnknownName, "direct"),
        (lambda: features.loss_effects(9, PROMPT), UnknownName, "no feature 9"),
        (lambda: features.prompt_scores(PROMPT, 5), OptionError, "position 5"),
        (lambda: features.polysemantic([9]), UnknownName, "no feature 9"),
        (lambda: features.compare(other), DictionaryError, "one site"),
        (lambda: features.compare(store(corpus(seed=1))), CorpusError, "one corpus"),
    ):
        with pytest.raises(error, match=said):
            ask()
