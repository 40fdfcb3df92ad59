"""Effects on the loss, and the scores of one prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sae_circuits as sc
from activity import corpus_of, made_of, random_activity
from reference_effects import direct_loss_effect as slow_effect
from sae_circuits.errors import (
    ContextError,
    DictionaryError,
    GraphError,
    NumericalError,
    OptionError,
    TaskError,
    UnknownName,
)
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.effects import (
    ablation_loss_effect,
    direct_loss_effect,
    prompt_scores,
)
from sae_circuits.features.effects import final as final_module
from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.losses import difference
from sae_circuits.features.effects.sight import Sight, read_prompts
from sae_circuits.features.quantiles import quantiles_of
from sae_circuits.graph import TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.norms import Norm
from shapes import BRIDGED, D_VOCAB, HOOKED, N_CTX, TWINS, random_tokens
from small_dictionaries import dictionary

LENGTHS = [6, 4, 1, 5]
EFFECTS = {"direct": direct_loss_effect, "ablation": ablation_loss_effect}
SITES = {
    "z": ("z", {"gate": "topk"}),
    "z-scaled": ("z", {"scaled": True}),
    "attn_out": ("attn_out", {"gate": "threshold"}),
    "mlp_out": ("mlp_out", {"scaled": True}),
    "resid_pre": ("resid_pre", {"gate": "gated"}),
    "resid_mid": ("resid_mid", {}),
    "resid_post": ("resid_post", {"gate": "abstopk"}),
    "transcoder": ("mlp_in", {"writes": "mlp_out", "skip": True}),
    "stream-transcoder": ("resid_mid", {"writes": "mlp_out", "gate": "topk"}),
}


def problem(shape, site="resid_post", layer=1, model=None):
    """A model, a dictionary, and prompts of several lengths with their mask."""
    reads, options = SITES[site]
    model = model or HOOKED[shape]()
    tokens, _ = random_tokens(model, len(LENGTHS), 6)
    mask = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
    return model, dictionary(model, reads, layer, **options), tokens, mask


def busiest(model, sae, tokens, mask):
    """The feature that is active most often."""
    sight = Sight.of(Adapter.of(model), sae)
    seen = sight.look(read_prompts(model, sight.adapter, tokens, mask=mask))
    return int((sight.activations(seen.encoded)[0] != 0).sum((0, 1)).argmax())


# -- known answers and slow references -----------------------------------------------------------


def test_the_loss_effect_of_the_small_case():
    W_U = torch.tensor([[1.0, 0, 2, -1], [0, 1, 1, 2], [3, 0, -1, 0]], dtype=torch.float64)
    final = Final(Norm(True, 0.0, None), W_U, None, torch.float64)
    r = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    moved, token = 2 * torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64), torch.tensor([2])
    assert final.log_prob(final.read(r), token).item() == pytest.approx(-0.738977, abs=1e-6)
    without = final.log_prob(final.read(r - moved), token).item()
    assert without == pytest.approx(-0.033143, abs=1e-6)
    assert difference(final, r, moved, token).item() == pytest.approx(-0.705833, abs=1e-6)


@pytest.mark.parametrize("shape", HOOKED)
def test_the_end_of_a_model_is_its_own(shape, monkeypatch):
    model = HOOKED[shape]()
    adapter, r = Adapter.of(model), torch.randn(5, 20, dtype=torch.float64)
    token = torch.randint(D_VOCAB, (5,))
    own = adapter.logits(r).log_softmax(1).gather(1, token[:, None])[:, 0]
    final = Final.of(adapter)
    torch.testing.assert_close(final.log_prob(final.read(r), token), own)
    monkeypatch.setattr(final_module, "TOKENS", 7)
    monkeypatch.setattr(final_module, "ROWS", 2)
    torch.testing.assert_close(final.log_prob(final.read(r), token), own)


@pytest.mark.parametrize(
    ("shape", "site"),
    [
        *(("llama", site) for site in SITES),
        *(("gpt2", site) for site in SITES if site.startswith("z")),
        *((shape, "mlp_out") for shape in HOOKED if shape != "attention-only"),
    ],
)
def test_direct_effects_against_one_position_at_a_time(shape, site):
    model, sae, tokens, mask = problem(shape, site, layer=0)
    f = busiest(model, sae, tokens, mask)
    found = direct_loss_effect(model, sae, f, tokens, mask=mask)
    assert found.nan_to_num().abs().max() > 1e-3
    for row, prompt, length in zip(found, tokens, LENGTHS, strict=True):
        slow = slow_effect(model, sae, f, prompt[:length])
        torch.testing.assert_close(row[:length], slow, equal_nan=True, rtol=1e-8, atol=1e-10)
        assert row[length:].isnan().all()


@pytest.mark.parametrize(
    ("shape", "site"), [*(("gpt2", site) for site in SITES), ("pythia", "z"), ("gemma2", "z")]
)
def test_ablation_effects_against_one_intervention_for_each_token(shape, site):
    model, sae, tokens, mask = problem(shape, site, layer=0)
    f = busiest(model, sae, tokens, mask)
    found = ablation_loss_effect(model, sae, f, tokens, mask=mask)
    assert found.nan_to_num().abs().max() > 1e-3
    graph = TensorGraph.from_model(model, saes=[sae])
    (split,) = graph.splits.values()
    change = {f"{split.name}.f{f}": ("set", 0.0)}
    for row, prompt, length in zip(found, tokens, LENGTHS, strict=True):
        assert row[0].isnan()
        assert row[length:].isnan().all()
        for p in range(1, length):
            done = sc.intervene(model, graph, prompt[:p], change)
            each = done.clean_logits[0], done.logits[0]
            one, other = (x.log_softmax(0)[prompt[p]] for x in each)
            assert row[p].item() == pytest.approx((one - other).item(), rel=1e-7, abs=1e-10)


@pytest.mark.parametrize(
    ("shape", "site"),
    [*((shape, "resid_post") for shape in HOOKED), ("attention-only", "z"), ("llama", "mlp_out")],
)
def test_what_nothing_reads_but_the_logits_has_the_same_effect_both_ways(shape, site):
    model, sae, tokens, mask = problem(shape, site, layer=1)
    f = busiest(model, sae, tokens, mask)
    one, other = (
        effect(model, sae, f, tokens, mask=mask, batch_size=2) for effect in EFFECTS.values()
    )
    assert one.nan_to_num().abs().max() > 1e-3
    torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-8, atol=1e-10)


def test_both_ways_agree_on_the_bundled_model_and_say_which_features_help():
    model = sc.load_model("demo")
    (sae,) = sc.load_saes("demo", ["resid_post.3"])
    prompts = ["When Mary and John went", "The cat and the dog"]
    scores = prompt_scores(model, sae, prompts[0], 4)
    f = int(scores["feature"][0])
    assert scores["effect"][0] == "helps"
    assert scores["loss_effect"][0] > 0.1
    one, other = (effect(model, sae, f, prompts) for effect in EFFECTS.values())
    assert one[0, 5].item() == pytest.approx(scores["loss_effect"][0], rel=1e-5)
    torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-3, atol=1e-5)


def test_taking_a_feature_away_under_a_norm_behind_the_heads():
    model, sae, tokens, mask = problem("gemma2", "z", layer=0)
    f = busiest(model, sae, tokens, mask)
    found = direct_loss_effect(model, sae, f, tokens, mask=mask)
    prompt, kept = tokens[0], {}
    p = int(found[0].nan_to_num().abs().argmax())
    names = ["blocks.0.attn.hook_z", "blocks.1.hook_resid_post"]
    hooks = [(name, lambda x, hook: kept.__setitem__(hook.name, x[0])) for name in names]
    model.run_with_hooks(prompt[None], fwd_hooks=hooks)
    z, r, attn = kept[names[0]][p - 1], kept[names[1]][p - 1], model.blocks[0].attn
    out, post = torch.einsum("hk,hkd->d", z, attn.W_O), model.blocks[0].ln1_post
    scale = (out.pow(2).mean() + post.eps).sqrt()
    row = torch.einsum("hk,hkd->d", sae.W_dec[f].reshape(z.shape), attn.W_O)
    moved = sae.encode(z.flatten())[f] * row * post.w / scale
    final = Final.of(Adapter.of(model))
    by_hand = difference(final, r[None], moved[None], prompt[p][None]).item()
    assert found[0, p].item() == pytest.approx(by_hand, rel=1e-8)


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("kind", EFFECTS)
def test_both_kinds_of_a_model_give_the_same_effects(shape, kind):
    hooked, bridge = TWINS[shape](dtype=torch.float64)
    model, sae, tokens, mask = problem(shape, "attn_out", layer=0, model=hooked)
    f = busiest(model, sae, tokens, mask)
    one, other = (EFFECTS[kind](m, sae, f, tokens, mask=mask) for m in (hooked, bridge))
    torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-4, atol=1e-5)


# -- batches, prompts, precision -----------------------------------------------------------------


@pytest.mark.parametrize("kind", EFFECTS)
def test_effects_hang_on_no_batch_and_no_padding_and_a_corpus_gives_the_same(kind):
    model, sae, tokens, mask = problem("llama", "mlp_out", layer=0)
    f = busiest(model, sae, tokens, mask)
    found = EFFECTS[kind](model, sae, f, tokens, mask=mask)
    for size in (1, 3):
        again = EFFECTS[kind](model, sae, f, tokens, mask=mask, batch_size=size)
        torch.testing.assert_close(found, again, equal_nan=True)
    rows = [row[:n].tolist() for row, n in zip(tokens, LENGTHS, strict=True)]
    corpus = Corpus.of_prompts(rows, Vocabulary(tuple(f"w{i}" for i in range(D_VOCAB))))
    torch.testing.assert_close(EFFECTS[kind](model, sae, f, corpus), found, equal_nan=True)


@pytest.mark.parametrize("kind", EFFECTS)
def test_a_prompt_of_one_token_has_no_effect_to_tell(kind):
    model, sae, tokens, _ = problem("gpt2")
    assert EFFECTS[kind](model, sae, 0, tokens[0, :1]).isnan().all()
    scores = prompt_scores(model, sae, tokens[0, :1], 0)
    assert len(scores)
    assert scores["loss_effect"].isna().all()
    assert scores["effect"].isna().all()
    assert scores["activation"].is_monotonic_decreasing


@pytest.mark.parametrize("kind", EFFECTS)
def test_model_and_dictionary_come_back_as_they_were(kind):
    model, sae, tokens, mask = problem("gpt2", "z")
    before = Adapter.of(model).fingerprint, sae.fingerprint
    EFFECTS[kind](model, sae, 0, tokens, mask=mask)
    assert (Adapter.of(model).fingerprint, sae.fingerprint) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def test_bfloat16_runs_and_is_near():
    model, single = (BRIDGED["gpt2"](dtype=d) for d in (torch.bfloat16, torch.float32))
    sae = dictionary(single, "resid_post", 1)
    tokens, _ = random_tokens(single, 2, 6)
    found, near = (direct_loss_effect(m, sae, 1, tokens) for m in (model, single))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, near, equal_nan=True, rtol=0.2, atol=0.1)


# -- one prompt ----------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["z-scaled", "resid_post", "transcoder"])
def test_prompt_scores_hold_what_each_feature_does(site):
    model, sae, tokens, _ = problem("gpt2", site, layer=0)
    scores = prompt_scores(model, sae, tokens[0], 2)
    each = {f: direct_loss_effect(model, sae, f, tokens[0])[0, 3].item() for f in range(7)}
    active = [f for f in range(7) if each[f] != 0]
    assert sorted(scores["feature"]) == active
    for row in scores.itertuples():
        assert row.loss_effect == pytest.approx(each[row.feature], rel=1e-9)
        assert row.effect == ("helps" if each[row.feature] > 0 else "hurts")
    assert scores["loss_effect"].is_monotonic_decreasing
    assert scores["quantile_of_active"].isna().all()


def test_quantiles_of_the_small_case():
    dense = np.zeros((12, 3))
    dense[[1, 2, 5, 7, 8, 10], 0] = 1, 1, 2, 3, 4, 4
    dense[[0, 3], 1] = -1, 2
    corpus, values = corpus_of(range(6), range(6)), np.array([2.0, -1.0, 0.5])
    columns = made_of(corpus, dense).columns(np.arange(3))
    of_counted, of_active = quantiles_of(values, columns, 12)
    assert of_counted.tolist() == [0.75, 1 / 12, 1.0]
    assert of_active[:2].tolist() == [0.5, 0.5]
    assert np.isnan(of_active[2])
    masked = made_of(corpus, dense, np.arange(12) % 6 != 0).columns(np.arange(3))
    assert quantiles_of(values, masked, 10)[0].tolist() == [0.7, 0.0, 1.0]
    nothing = made_of(corpus, dense, np.zeros(12, dtype=bool)).columns(np.arange(3))
    assert np.isnan(quantiles_of(values, nothing, 0)).all()


@given(st.integers(0, 999), st.floats(-2, 2, width=32))
def test_quantiles_against_the_dense_array(seed, value):
    activity = random_activity(seed=seed)
    dense, f = activity.dense[activity.counted], np.arange(activity.n_features)
    values = np.full(len(f), value)
    of_counted, of_active = quantiles_of(values, activity.columns(f), len(dense))
    np.testing.assert_allclose(of_counted, (dense <= value).mean(0))
    for i in f:
        own = dense[dense[:, i] != 0, i]
        assert np.isnan(of_active[i]) if not len(own) else of_active[i] == (own <= value).mean()


def test_prompt_scores_show_quantiles_on_a_corpus():
    model, sae, tokens, _ = problem("gpt2", "resid_post", layer=0)
    rows = tokens.tolist()
    corpus = Corpus.of_prompts(rows, Vocabulary(tuple(f"w{i}" for i in range(D_VOCAB))))
    _, cache = model.run_with_cache(tokens)
    dense = sae.encode(cache["blocks.0.hook_resid_post"]).flatten(0, 1).detach().numpy()
    scores = prompt_scores(model, sae, tokens[1], 3, made_of(corpus, dense))
    assert len(scores)
    for row in scores.itertuples():
        own = dense[:, row.feature].astype(np.float32)
        at_most = own <= np.float32(row.activation) + 1e-6
        assert row.quantile_of_counted == pytest.approx(at_most.mean())
        assert row.quantile_of_active == pytest.approx(at_most[own != 0].mean())


def test_a_position_without_active_features_gives_an_empty_table():
    model, _, tokens, _ = problem("gpt2")
    sae = dictionary(model, "resid_post", 0, gate="relu")
    quiet = sc.Dictionary(**{**vars(sae), "b_enc": sae.b_enc - 100})
    scores = prompt_scores(model, quiet, tokens[0], 2)
    assert scores.empty
    assert "loss_effect" in scores


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EFFECTS)
def test_what_cannot_be_is_refused_before_any_run(kind):
    model, sae, tokens, _ = problem("gpt2")
    effect = EFFECTS[kind]
    with pytest.raises(UnknownName, match="no feature 7"):
        effect(model, sae, 7, tokens)
    with pytest.raises(ContextError, match="reads at most 16"):
        effect(model, sae, 0, torch.ones(1, N_CTX + 1, dtype=torch.int64))
    with pytest.raises(TaskError, match="40"):
        effect(model, sae, 0, torch.full((1, 3), D_VOCAB))
    with pytest.raises(DictionaryError, match="20 wide"):
        effect(HOOKED["gpt2"](d_model=24), sae, 0, tokens)
    with pytest.raises(GraphError, match="no stream between"):
        effect(HOOKED["pythia"](), dictionary(model, "resid_mid", 0), 0, tokens)


def test_scores_of_what_is_no_prompt_or_no_position_are_refused():
    model, sae, tokens, _ = problem("gpt2")
    with pytest.raises(OptionError, match="take 0 to 5"):
        prompt_scores(model, sae, tokens[0], 6)
    other = made_of(corpus_of([0, 1]), np.ones((2, 3)))
    with pytest.raises(OptionError, match="3 features"):
        prompt_scores(model, sae, tokens[0], 2, other)


@pytest.mark.parametrize("kind", EFFECTS)
def test_a_model_with_weights_that_are_not_finite_is_named(kind):
    model, sae, tokens, _ = problem("gpt2", layer=0)
    with torch.no_grad():
        model.blocks[0].mlp.W_out[2, 3] = float("nan")
    with pytest.raises(NumericalError, match="prompt 0 is not finite at position 0"):
        EFFECTS[kind](model, sae, 0, tokens)
