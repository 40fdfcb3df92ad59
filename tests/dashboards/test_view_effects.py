"""What a view says of features by way of their model, against the reference and edited runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sae_circuits as sc
from reference_effects import direct_loss_effect as slow_effect
from sae_circuits.dashboards.build import profiles
from sae_circuits.dashboards.model_effects import Options
from sae_circuits.errors import OptionError
from sae_circuits.features.effects import (
    ablation_loss_effect,
    attention_source,
    logit_effects,
    stream_directions,
)
from sae_circuits.features.examples import Wanted, Windows
from sae_circuits.features.sources import HeldSource
from sae_circuits.features.store.tables import Contents
from shapes import HOOKED
from small_dictionaries import dictionary
from small_stores import corpus, planted

CONTENTS = Contents(Windows(2, 1), Wanted(4, 2, 2, each=2, random=2))
SITES = {
    "gpt2": ("mlp_out", {"scaled": True}),
    "gpt2-folded": ("resid_post", {"gate": "topk"}),
    "no-norm": ("resid_post", {}),
    "llama": ("z", {"scaled": True}),
    "llama-folded": ("mlp_in", {"writes": "mlp_out", "skip": True}),
    "gemma2": ("attn_out", {"gate": "abstopk"}),
    "attention-only": ("z", {}),
}


def of(shape, layer=1):
    model = HOOKED[shape](n_ctx=20)
    reads, options = SITES[shape]
    sae = dictionary(model, reads, layer, **options)
    return model, sae, sc.FeatureDictionary.build(model, sae, corpus(), contents=CONTENTS)


def prompt_of(features, window):
    return torch.from_numpy(features.corpus.prompt(window.prompt).astype(np.int64))


def windows_of(profile):
    return [window for group in profile.groups for window in group.windows]


@pytest.mark.parametrize("shape", SITES)
def test_direct_effects_are_those_of_the_reference(shape):
    model, sae, features = of(shape)
    counted, n = features.activations.counted, 0
    for profile in sc.FeatureView.build(features).profiles:
        slow = {}
        for window in windows_of(profile):
            tokens = prompt_of(features, window)
            if window.prompt not in slow:
                slow[window.prompt] = slow_effect(model, sae, profile.feature, tokens)
            start = int(features.corpus.starts[window.prompt])
            assert window.effects is not None
            given = dict(zip(window.effects.at, window.effects.direct, strict=True))
            for i in range(len(window.tokens)):
                p = window.first + i
                own = slow[window.prompt][p].item()
                if p == 0 or not counted[start + p - 1]:
                    assert i not in given
                else:
                    n += i in given
                    assert given.get(i, 0.0) == pytest.approx(own, rel=1e-4, abs=1e-12)
    assert n > 50


@pytest.mark.parametrize("shape", ["gpt2", "gemma2"])
def test_tokens_helped_and_hurt_are_those_of_an_edited_run(shape):
    model, sae, features = of(shape)
    f = int(features.statistics().density.idxmax())
    (profile,) = sc.FeatureView.build(features, [f], hover=3).profiles
    n = 0
    for window in windows_of(profile)[:4]:
        tokens, effects = prompt_of(features, window), window.effects
        for row, i in enumerate(effects.at):
            p, change = window.first + i, []
            for t in range(model.cfg.d_vocab):
                swapped = tokens.clone()
                swapped[p] = t
                change.append(slow_effect(model, sae, f, swapped[: p + 1])[p].item())
            order = np.argsort([-x for x in change], kind="stable")
            best = [t for t in order[:3] if change[t] > 0]
            worst = [t for t in order[::-1][:3] if change[t] < 0]
            for own, wanted in ((effects.helped[row], best), (effects.hurt[row], worst)):
                assert list(own.ids) == wanted
                assert own.values == pytest.approx([change[t] for t in wanted], rel=5e-3)
            ratio = math.log(effects.before[row] / effects.without[row])
            assert ratio == pytest.approx(effects.direct[row], rel=1e-2, abs=1e-4)
            n += 1
    assert n > 3


def test_what_is_said_of_a_feature_hangs_on_no_other():
    _, _, features = of("gpt2")
    whole = list(profiles(features, range(7)))
    assert list(profiles(features, range(7), block=2)) == whole
    assert list(profiles(features, [5, 2, 3], block=1)) == [whole[5], whole[2], whole[3]]


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_ablation_effects_are_those_of_a_second_run(shape):
    model, sae, features = of(shape, layer=0)
    (profile,) = sc.FeatureView.build(features, [1], ablation=True, loss_effects=False).profiles
    assert windows_of(profile)
    for window in windows_of(profile):
        own = ablation_loss_effect(model, sae, 1, prompt_of(features, window))[0].tolist()
        some = own[window.first : window.first + len(window.tokens)]
        assert window.effects is None
        for given, wanted in zip(window.ablation, some, strict=True):
            assert given is None if math.isnan(wanted) else given == pytest.approx(wanted, rel=1e-4)


def test_attention_sources_of_features_of_z():
    model, sae, features = of("llama")
    (profile,) = sc.FeatureView.build(features, [2], hover=3).profiles
    assert windows_of(profile)
    for window in windows_of(profile):
        whole = attention_source(model, sae, 2, prompt_of(features, window)).values
        values, places = whole[window.position, : window.position + 1].sort(descending=True)
        assert list(window.sources.ids) == places[:3].tolist()
        assert window.sources.values == pytest.approx(values[:3].tolist(), rel=1e-4)
    assert sum(profile.heads) == pytest.approx(1, rel=1e-6)


def test_probes_and_effects_on_the_logits_of_shown_tokens():
    model, sae, features = of("gpt2")
    directions, names = torch.randn(20, 3, dtype=torch.float64), ["a", "b", "c"]
    view = sc.FeatureView.build(features, [4], probes={"mood": (directions, names)})
    (profile,) = view.profiles
    values = (stream_directions(model, sae, 4)[0] @ directions).tolist()
    (probed,) = profile.probes
    given = dict(zip(probed.classes, probed.values, strict=True))
    assert given == pytest.approx(dict(zip(names, values, strict=True)), rel=1e-4)
    assert list(probed.values) == sorted(probed.values, reverse=True)
    shown = {t for window in windows_of(profile) for t in window.tokens}
    assert set(profile.effects.ids) == shown
    k = model.cfg.d_vocab
    every = logit_effects(model, sae, [4], k=k)
    known = dict(zip(every.top_tokens[0].tolist(), every.top_values[0].tolist(), strict=True))
    for token, value in zip(profile.effects.ids, profile.effects.values, strict=True):
        assert value == pytest.approx(known[token], rel=1e-3, abs=1e-6)


def test_what_needs_the_model_is_refused_without_it():
    for asked in (
        {"loss_effects": True},
        {"ablation": True},
        {"probes": {"x": (torch.ones(2, 1), ["a"])}},
    ):
        with pytest.raises(OptionError, match="need the model"):
            sc.FeatureView.build(planted(), **asked)
    assert windows_of(sc.FeatureView.build(planted(), [0]).profiles[0])[0].effects is None
    with pytest.raises(OptionError, match="a name for each class"):
        Options(probes={"x": (torch.ones(2, 2), ["a"])})
    with pytest.raises(OptionError, match="hover=-1"):
        Options(hover=-1)
    _, _, features = of("gpt2")
    with pytest.raises(OptionError, match="20 wide"):
        sc.FeatureView.build(features, probes={"x": (torch.ones(2, 1), ["a"])})


def test_a_view_with_all_of_it_comes_back_from_its_file(tmp_path):
    _, _, features = of("attention-only")
    probes = {"x": (torch.ones(20, 1, dtype=torch.float64), ["a"])}
    view = sc.FeatureView.build(features, ablation=True, probes=probes)
    path = view.save(tmp_path / "view.json")
    assert sc.FeatureView.load(path) == view
    assert sc.FeatureView.load(path).save(tmp_path / "b.json").read_bytes() == path.read_bytes()


ODD = {
    "dead": [],
    "one": [(4, 2.0)],
    "alike": [(1, 3.0), (4, 3.0), (6, 3.0)],
    "tiny": [(1, 1e-8), (4, 2e-8), (6, 1.5e-8)],
    "huge": [(1, 1e6), (4, 2e6), (6, 1.5e6)],
    "negative": [(1, -2.0), (4, -1.0), (6, -3.0)],
    "both": [(1, -2.0), (4, 1.0), (6, 3.0), (0, 1.0)],
}


@pytest.mark.parametrize("lengths", [(9, 1, 4), (9,), (1, 1, 1, 1, 1, 1, 1)])
def test_odd_features_have_a_view_without_nan(lengths, tmp_path):
    held = torch.zeros(sum(lengths), len(ODD))
    for f, values in enumerate(ODD.values()):
        for place, value in values:
            held[place, f] = value
    source = HeldSource(held, tuple(ODD))
    features = sc.FeatureDictionary.build(None, source, corpus(lengths), contents=CONTENTS)
    view = sc.FeatureView.build(features, list(ODD))
    assert sc.FeatureView.load(view.save(tmp_path / "view.json")) == view
    named = {profile.name: profile for profile in view.profiles}
    assert named["dead"].groups == ()
    counted = features.activations.counted
    for name, profile in named.items():
        active = [v for place, v in ODD[name] if counted[place]]
        shown = [a for w in windows_of(profile) for a in w.activations if a]
        assert set(np.float32(shown).tolist()) == set(np.float32(active).tolist())
        if active:
            top = profile.groups[0]
            assert top.kind == "top"
            assert (top.low, top.high) == pytest.approx((min(active), max(active)), rel=1e-6)
            assert (top.count, sum(profile.activations.counts)) == (len(active), len(active))


def test_a_feature_that_writes_nothing_does_nothing(tmp_path):
    model = HOOKED["gpt2"](n_ctx=20)
    sae = dictionary(model, "mlp_out", 1)
    sae.decoders[0][3] = 0
    features = sc.FeatureDictionary.build(model, sae, corpus(), contents=CONTENTS)
    view = sc.FeatureView.build(features, [3], ablation=True)
    assert sc.FeatureView.load(view.save(tmp_path / "view.json")) == view
    (profile,) = view.profiles
    assert (profile.logits, profile.top.ids, profile.effects.ids) == (None, (), ())
    assert profile.neurons.ids == ()
    n = 0
    for window in windows_of(profile):
        n += len(window.effects.at)
        assert set(window.effects.direct) <= {0.0}
        assert not any(each.ids for each in (*window.effects.helped, *window.effects.hurt))
        assert all(x is None or abs(x) < 1e-9 for x in window.ablation)
    assert n
