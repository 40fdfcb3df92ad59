"""From where attention brought what a feature of z reads."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import DictionaryError, NumericalError, UnknownName
from sae_circuits.features.effects import attention_source
from shapes import BRIDGED, HOOKED, N_HEADS, N_KV, random_tokens
from small_dictionaries import dictionary


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shape", HOOKED)
def test_sources_and_bias_sum_to_the_pre_activation(shape, scaled):
    model = HOOKED[shape]()
    sae = dictionary(model, "z", 1, gate="topk", scaled=scaled)
    (tokens,), _ = random_tokens(model, 1, 7)
    _, cache = model.run_with_cache(tokens[None])
    pre = sae.pre_activation(cache["blocks.1.attn.hook_z"][0].flatten(1))
    for f in (0, 6):
        found = attention_source(model, sae, f, tokens)
        torch.testing.assert_close(found.pre_activation, pre[:, f].detach())
        assert (found.values.triu(1) == 0).all()
        assert (found.values[-1, -3:] != 0).all()


@pytest.mark.parametrize("shape", BRIDGED)
def test_of_a_bridge_too(shape):
    model = BRIDGED[shape](dtype=torch.float64)
    sae = dictionary(model, "z", 1)
    (tokens,), _ = random_tokens(model, 1, 7)
    kept = []
    point = model.blocks[1].attn.hook_z
    handle = point.register_forward_hook(lambda module, args, output: kept.append(output))
    model(tokens[None])
    handle.remove()
    pre = sae.pre_activation(kept[0][0].flatten(1))
    found = attention_source(model, sae, 2, tokens)
    torch.testing.assert_close(found.pre_activation, pre[:, 2].detach(), rtol=1e-6, atol=1e-6)


def test_each_source_is_its_pattern_times_the_value_of_its_group():
    model = HOOKED["llama"]()
    sae = dictionary(model, "z", 0)
    (tokens,), _ = random_tokens(model, 1, 5)
    _, cache = model.run_with_cache(tokens[None])
    pattern, v = cache["blocks.0.attn.hook_pattern"][0], cache["blocks.0.attn.hook_v"][0]
    W_enc = sae.W_enc.reshape(N_HEADS, -1, 7)
    found = attention_source(model, sae, 5, tokens)
    for q, s in ((4, 0), (4, 4), (2, 1)):
        each = [
            pattern[h, q, s] * (v[s, h // (N_HEADS // N_KV)] @ W_enc[h, :, 5])
            for h in range(N_HEADS)
        ]
        assert found.values[q, s].item() == pytest.approx(sum(each).item(), rel=1e-9)


def test_on_the_bundled_model_by_text():
    model = sc.load_model("demo")
    (sae,) = sc.load_saes("demo", ["z.1"])
    found = attention_source(model, sae, 200, "When Mary and John went")
    assert repr(found) == "AttentionSource(feature 200, 6 tokens)"
    assert found.values.dtype == torch.float32
    assert attention_source(model, sae, 200, torch.tensor([5])).values.shape == (1, 1)


def test_what_cannot_be_is_refused():
    model = HOOKED["gpt2"]()
    tokens = torch.tensor([1, 2, 3])
    with pytest.raises(DictionaryError, match="reads resid_post"):
        attention_source(model, dictionary(model, "resid_post", 0), 0, tokens)
    sae = dictionary(model, "z", 0)
    with pytest.raises(UnknownName, match="no feature 9"):
        attention_source(model, sae, 9, tokens)
    with torch.no_grad():
        model.blocks[0].attn.W_V[0, 0, 0] = float("inf")
    with pytest.raises(NumericalError, match="attention of layer 0"):
        attention_source(model, sae, 0, tokens)
