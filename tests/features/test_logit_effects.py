"""Directions, logit effects and alignment: what follows from weights alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sae_circuits as sc
from reference_effects import direction, logit_effect, summary
from sae_circuits.errors import DictionaryError, NumericalError, OptionError, UnknownName
from sae_circuits.features.corpus import Vocabulary
from sae_circuits.features.effects import final as final_module
from sae_circuits.features.effects import (
    head_shares,
    logit_effects,
    neuron_alignment,
    stream_directions,
)
from sae_circuits.features.effects.directions import TILE
from sae_circuits.features.effects.largest import largest
from sae_circuits.graph import Architecture, Neurons
from sae_circuits.models.dictionaries import Site
from shapes import BRIDGED, D_MODEL, D_VOCAB, HOOKED, TWINS
from small_dictionaries import dictionary

SITES = ("z", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post")
FIELDS = ("top_tokens", "top_values", "bottom_tokens", "bottom_values", "counts", "edges")
NUMBERS = ("std", "skew", "kurtosis")


def same(one, other):
    """Whether two sets of effects are the same to the bit."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in ("features", *FIELDS, *NUMBERS)
    )


def some(effects, places):
    """Those of some rows."""
    every = {name: getattr(effects, name)[places] for name in ("features", *FIELDS, *NUMBERS)}
    return replace(effects, **every)


# -- directions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
def test_a_direction_is_the_decoder_row_as_the_hook_carries_it(site):
    model = HOOKED["llama"]()
    sae = dictionary(model, site, 1)
    slow = torch.stack([direction(model, sae, f) for f in range(sae.n_features)])
    torch.testing.assert_close(stream_directions(model, sae), slow.detach())
    torch.testing.assert_close(stream_directions(model, sae, [4, 1, 4]), slow[[4, 1, 4]].detach())
    torch.testing.assert_close(stream_directions(model, sae, 2), slow[[2]].detach())


def test_what_a_feature_adds_to_the_stream_is_its_coefficient_times_its_direction():
    model = HOOKED["gemma2"]()  # with norms behind the heads
    sae = dictionary(model, "z", 1)
    z = torch.randn(1, 1, 4, 6, dtype=torch.float64)
    norm, W_O = model.blocks[1].ln1_post, model.blocks[1].attn.W_O
    row = sae.W_dec[3].reshape(4, 6)
    scale = torch.einsum("bphk,hkd->bpd", z, W_O).pow(2).mean(-1, keepdim=True)
    by_hand = torch.einsum("hk,hkd->d", row, W_O) / (scale + norm.eps).sqrt() * norm.w
    found = stream_directions(model, sae, 3)[0] / (scale + norm.eps).sqrt()
    torch.testing.assert_close(found, by_hand.detach())


def test_transcoders_write_where_their_mlp_does_and_cross_layer_ones_the_sum_of_their_rows():
    model = HOOKED["gpt2"]()
    transcoder = dictionary(model, "mlp_in", 0, writes="mlp_out")
    assert torch.equal(stream_directions(model, transcoder), transcoder.W_dec)
    second = torch.randn_like(transcoder.W_dec)
    crossing = replace(
        transcoder,
        writes=(Site("mlp_out", 0), Site("mlp_out", 1)),
        decoders=(transcoder.W_dec, second),
    )
    found = stream_directions(model, crossing)
    torch.testing.assert_close(found, transcoder.W_dec + second)


def test_neurons_have_the_rows_of_the_last_matrix():
    model = HOOKED["gpt2"]()
    arch = Architecture.of(model)
    assert torch.equal(
        stream_directions(model, Neurons.of(arch, "m1"), [5, 0]), model.blocks[1].mlp.W_out[[5, 0]]
    )
    assert torch.equal(
        stream_directions(model, Neurons.of(arch, "a1"), [7]), model.blocks[1].attn.W_O[1, 1][None]
    )


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2"])
def test_both_kinds_of_a_model_have_the_same_effects(shape):
    hooked, bridge = TWINS[shape](dtype=torch.float64)
    sae = dictionary(hooked, "z", 0)
    one, other = logit_effects(hooked, sae, k=4), logit_effects(bridge, sae, k=4)
    assert np.array_equal(one.top_tokens, other.top_tokens)
    np.testing.assert_allclose(one.kurtosis, other.kurtosis, rtol=1e-6)


# -- logit effects -------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("shape", ["gpt2", "gpt2-folded", "no-norm", "llama"])
@pytest.mark.parametrize("site", ["z", "resid_post"])
def test_logit_effects_against_one_feature_at_a_time(shape, site, gain):
    model = HOOKED[shape]()
    sae = dictionary(model, site, 1)
    found = logit_effects(model, sae, [6, 0, 3], k=5, bins=8, gain=gain)
    for i, f in enumerate([6, 0, 3]):
        slow = summary(logit_effect(model, sae, f, gain=gain), 5, 8)
        for name in (*FIELDS, *NUMBERS):
            np.testing.assert_allclose(
                getattr(found, name)[i], slow[name], rtol=1e-6, atol=1e-7, err_msg=name
            )


def test_effects_are_the_same_to_the_bit_whichever_features_are_asked_for():
    model = sc.load_model("demo")
    (sae,) = sc.load_saes("demo", ["z.2"])
    every = logit_effects(model, sae)
    assert len(every) == 256 > 3 * TILE
    shuffled = np.random.default_rng(0).permutation(256)
    assert same(logit_effects(model, sae, shuffled), some(every, shuffled))
    for f in (0, 77, 255):
        assert same(logit_effects(model, sae, f), some(every, [f]))
        assert torch.equal(stream_directions(model, sae, f), stream_directions(model, sae)[[f]])


def test_the_vocabulary_is_taken_in_tiles(monkeypatch):
    model = HOOKED["gpt2"]()
    sae = dictionary(model, "resid_post", 1)
    whole = logit_effects(model, sae)
    monkeypatch.setattr(final_module, "TOKENS", 7)
    tiled = logit_effects(model, sae)
    assert np.array_equal(whole.top_tokens, tiled.top_tokens)
    np.testing.assert_allclose(whole.kurtosis, tiled.kurtosis, rtol=1e-12)


def test_counts_and_moments_describe_the_whole_vocabulary():
    model = sc.load_model("demo")
    (sae,) = sc.load_saes("demo", ["resid_post.3"])
    n = model.cfg.d_vocab
    found = logit_effects(model, sae, k=n, bins=20)
    assert (found.counts.sum(1) == n).all()
    np.testing.assert_allclose(found.top_values.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(found.top_values.std(1), found.std, rtol=1e-5)
    assert np.array_equal(found.top_tokens[:, :3], logit_effects(model, sae, k=3).top_tokens)
    np.testing.assert_allclose(found.edges[:, [0, -1]], found.top_values[:, [-1, 0]], rtol=1e-5)


def test_a_zero_decoder_row_is_undefined_and_the_others_stay():
    model = HOOKED["gpt2"]()
    sae = dictionary(model, "mlp_out", 0)
    zeroed = sae.W_dec.clone()
    zeroed[2] = 0
    dead = replace(sae, decoders=(zeroed,))
    found, whole = logit_effects(model, dead, k=3), logit_effects(model, sae, k=3)
    assert (found.top_tokens[2] == -1).all()
    assert (found.counts[2] == 0).all()
    for name in (*NUMBERS, "edges", "top_values", "bottom_values"):
        assert np.isnan(getattr(found, name)[2]).all()
        assert np.isfinite(np.delete(getattr(found, name), 2, 0)).all()
    assert same(some(found, [0, 1, 3, 4, 5, 6]), some(whole, [0, 1, 3, 4, 5, 6]))
    assert found.tokens(2).empty
    assert list(found.tokens(2)) == ["token", "text", "effect"]
    assert found.to_pandas()["top_token"].tolist()[2] == -1
    aligned = neuron_alignment(dead, k=2)
    assert (aligned.neurons[2] == -1).all()
    assert np.isnan(aligned.shares[2]).all()
    assert sorted(set(aligned.to_pandas()["feature"])) == [0, 1, 3, 4, 5, 6]


def test_tables_show_both_ends_of_a_feature_and_no_token_twice():
    model = HOOKED["gpt2"]()
    sae = dictionary(model, "resid_post", 1)
    vocabulary = Vocabulary(tuple(f" w{i}" for i in range(D_VOCAB)))
    found = logit_effects(model, sae, [3], k=2)
    table = found.tokens(3, vocabulary)
    assert table["effect"].is_monotonic_decreasing
    assert len(table) == 4
    assert table["text"].tolist() == [f" w{t}" for t in table["token"]]
    assert sorted(logit_effects(model, sae, [3], k=D_VOCAB).tokens(3)["token"]) == list(
        range(D_VOCAB)
    )
    with pytest.raises(OptionError, match="feature 4"):
        found.tokens(4)


def test_low_precision_models_are_computed_in_single():
    model = BRIDGED["gpt2"](dtype=torch.bfloat16)
    single = BRIDGED["gpt2"](dtype=torch.float32)
    sae = dictionary(model, "z", 1)
    found = logit_effects(model, sae, k=1)
    assert stream_directions(model, sae).dtype == torch.float32
    other = logit_effects(single, sae.to("cpu", torch.float32), k=1)
    np.testing.assert_allclose(found.std, other.std, rtol=0.02)


@given(st.data())
def test_the_ends_of_each_row_with_ties_by_the_lower_index(data):
    n = data.draw(st.integers(1, 2000))
    k = data.draw(st.integers(1, min(n, 400)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.integers(-5, data.draw(st.integers(-4, 400)), (3, n))
    smallest = data.draw(st.booleans())
    found = largest(torch.tensor(x, dtype=torch.float32), k, smallest=smallest)
    for row, values, places in zip(x, found.values.tolist(), found.places.tolist(), strict=True):
        slow = sorted(range(n), key=lambda i: (row[i] if smallest else -row[i], i))[:k]
        assert places == slow
        assert values == row[slow].tolist()


# -- alignment -----------------------------------------------------------------------------------


def test_alignment_of_the_small_case():
    model = HOOKED["gpt2"]()
    sae = dictionary(model, "resid_post", 0)
    rows = torch.zeros(sae.n_features, D_MODEL, dtype=torch.float64)
    rows[1, :3] = torch.tensor([3.0, -4.0, 0.0])
    found = neuron_alignment(replace(sae, decoders=(rows,)), 1, k=3)
    assert found.neurons.tolist() == [[1, 0, 2]]
    assert found.values.tolist() == [[-4.0, 3.0, 0.0]]
    np.testing.assert_allclose(found.shares, [[0.571429, 0.428571, 0]], atol=1e-6)


def test_shares_of_heads():
    model = HOOKED["gpt2"]()
    sae, n = dictionary(model, "z", 0), model.cfg.n_heads
    rows = torch.zeros_like(sae.W_dec).unflatten(1, (n, -1))
    rows[0, 0, :2], rows[0, 1, 1] = torch.tensor([3.0, -4.0]), 12.0  # norms 5 and 12
    sae = replace(sae, decoders=(rows.flatten(1),))
    found = head_shares(sae, n, [0, 2])
    np.testing.assert_allclose(found[0, :2], [5 / 17, 12 / 17])
    assert (found[0, 2:] == 0).all()
    assert np.isnan(found[1]).all()
    assert head_shares(sae, 1, []).shape == (0, 1)
    with pytest.raises(DictionaryError, match="17 heads"):
        head_shares(sae, 17)
    with pytest.raises(DictionaryError, match="dictionary of their z"):
        head_shares(dictionary(model, "resid_post", 0), 2)


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("features", [[0, 7], [-1], 300])
def test_ids_that_the_dictionary_lacks_are_refused(features):
    model = HOOKED["gpt2"]()
    sae = dictionary(model, "resid_post", 0)
    for ask in (
        lambda: stream_directions(model, sae, features),
        lambda: logit_effects(model, sae, features),
        lambda: neuron_alignment(sae, features),
    ):
        with pytest.raises(UnknownName, match="there are 7, 0 to 6"):
            ask()


def test_what_does_not_fit_is_refused():
    model = HOOKED["gpt2"]()
    sae = dictionary(model, "resid_post", 0)
    with pytest.raises(OptionError, match="float64"):
        logit_effects(model, sae, np.array([0.5]))
    assert len(logit_effects(model, sae, [])) == len(stream_directions(model, sae, [])) == 0
    with pytest.raises(OptionError, match="1 to 40"):
        logit_effects(model, sae, k=41)
    with pytest.raises(OptionError, match="bins is 0"):
        logit_effects(model, sae, bins=0)
    with pytest.raises(OptionError, match="1 to 20"):
        neuron_alignment(sae, k=21)
    with pytest.raises(DictionaryError, match="20 wide"):
        logit_effects(HOOKED["gpt2"](d_model=24), sae)
    with pytest.raises(DictionaryError, match="what an MLP reads"):
        logit_effects(model, dictionary(model, "mlp_in", 0))


@pytest.mark.parametrize(("name", "says"), [("unembed.W_U", "W_U"), ("ln_final.w", "gain")])
def test_weights_that_are_not_finite_are_named(name, says):
    model = HOOKED["gpt2"]()
    sae = dictionary(model, "resid_post", 0)
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[3] = float("nan")
    with pytest.raises(NumericalError, match=says):
        logit_effects(model, sae)


def test_effects_beyond_the_range_of_floats_name_the_feature():
    model = HOOKED["gpt2"](dtype=torch.float32)
    sae = dictionary(model, "resid_post", 0)
    rows = sae.W_dec.clone()
    rows[4] = 3e38
    with pytest.raises(NumericalError, match="feature 4"):
        logit_effects(model, replace(sae, decoders=(rows,)))
