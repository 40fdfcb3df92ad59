"""Scores of all features at all positions of one prompt, against one edited run for each."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import sae_circuits as sc
from activity import made_of
from reference_effects import HOOKS, direct_loss_effect, direction
from sae_circuits.errors import MetricError, OptionError, TaskError
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.effects import prompt_scores
from sae_circuits.features.effects.on_prompt import Measured, OnPrompt
from sae_circuits.models.adapter import Adapter
from shapes import D_VOCAB, HOOKED, TWINS, random_tokens
from small_dictionaries import N_FEATURES, dictionary

SITES = {
    "z": ("z", {"gate": "topk"}),
    "attn_out": ("attn_out", {"gate": "threshold"}),
    "mlp_out": ("mlp_out", {"scaled": True}),
    "resid_pre": ("resid_pre", {"gate": "gated"}),
    "resid_post": ("resid_post", {"gate": "abstopk"}),
    "transcoder": ("mlp_in", {"writes": "mlp_out", "skip": True}),
}
CASES = [
    *((shape, "resid_post", 1) for shape in HOOKED),
    *((shape, "attn_out", 0) for shape in HOOKED if shape != "gemma2"),
    *(("llama", site, 0) for site in SITES),
    ("gpt2", "z", 1),
]
MEASURED = Measured(sc.metrics.logit_diff, (3,), (5, 7))


def problem(shape, site="resid_post", layer=1, n=6):
    reads, options = SITES[site]
    model = HOOKED[shape]()
    tokens, _ = random_tokens(model, 1, n)
    return model, dictionary(model, reads, layer, **options), tokens[0]


def dense(found, values):
    """Scores [position, feature], 0 where a feature is not active."""
    table = torch.zeros(len(found.tokens), N_FEATURES, dtype=torch.float64)
    table[found.positions, found.features] = torch.as_tensor(values)
    return table


def written(found):
    """What each feature adds along its direction, [position, feature]."""
    return dense(found, found.coefficients)


def edited(model, run, **hooks):
    """Logits of a run with hooks, before the cap."""
    logits = model.run_with_hooks(run, fwd_hooks=list(hooks.values()))[0]
    cap = model.cfg.output_logits_soft_cap
    return cap * torch.atanh(logits / cap) if cap > 0 else logits


# -- each score ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "site", "layer"), CASES)
def test_loss_effects_are_those_of_one_feature_at_a_time(shape, site, layer):
    model, sae, tokens = problem(shape, site, layer)
    found = OnPrompt.of(model, sae, tokens)
    table = dense(found, found.loss_effects())
    assert table[:-1].abs().max() > 1e-3
    assert table[-1][found.features[found.positions == 5]].isnan().all()
    for f in range(N_FEATURES):
        slow = direct_loss_effect(model, sae, f, tokens)[1:]
        torch.testing.assert_close(table[:-1, f], slow, rtol=1e-8, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize(("shape", "site", "layer"), CASES)
def test_logit_effects_are_those_of_a_run_without_the_write_under_the_same_scale(
    shape, site, layer
):
    model, sae, tokens = problem(shape, site, layer)
    found = OnPrompt.of(model, sae, tokens)
    asked = [4, 0, 39]
    effects = found.logit_effects(asked)
    assert np.abs(effects).max() > 1e-2
    c, last = written(found), f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    kept = {}
    hooks = {}
    if model.cfg.normalization_type is not None:
        name = "ln_final.hook_scale"
        model.run_with_hooks(
            tokens[None], fwd_hooks=[(name, lambda x, hook: kept.__setitem__("scale", x))]
        )
        hooks["scale"] = (name, lambda x, hook: kept["scale"])
    whole = edited(model, tokens[None], **hooks)
    for f in range(N_FEATURES):
        moved = c[:, f, None] * direction(model, sae, f)
        hooks["without"] = (last, lambda x, hook, moved=moved: x - moved)
        change = whole - edited(model, tokens[None], **hooks)
        change = (change - change.mean(-1, keepdim=True))[:, asked]
        mine = torch.zeros_like(change)
        own = found.features == f
        mine[found.positions[own]] = torch.as_tensor(effects[own.numpy()])
        torch.testing.assert_close(mine, change, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("shape", "site", "layer"), CASES)
def test_attributions_are_activations_times_gradients_by_hand(shape, site, layer):
    model, sae, tokens = problem(shape, site, layer)
    found = OnPrompt.of(model, sae, tokens, MEASURED)
    c = written(found).requires_grad_()
    writes = sae.writes[0]

    def write(x, hook):
        return x + ((c - c.detach()) @ sae.W_dec).reshape(x.shape)

    name = f"blocks.{writes.layer}.{HOOKS[writes.kind]}"
    logits = model.run_with_hooks(tokens[None], fwd_hooks=[(name, write)])[:, -1]
    (logits[0, 3] - (logits[0, 5] + logits[0, 7]) / 2).backward()
    table = dense(found, found.attributions())
    assert table.abs().max() > 1e-3
    torch.testing.assert_close(table, (c * c.grad).detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("shape", "site"), [("llama", "mlp_out"), ("gemma2", "z"), ("gpt2", "z")])
def test_attributions_are_those_of_the_nodes_at_each_position(shape, site):
    model, sae, tokens = problem(shape, site, 0)
    found = OnPrompt.of(model, sae, tokens, MEASURED)
    task = sc.Task.from_tokens(
        tokens[None], tokens[None], answer=torch.tensor([[3]]), wrong=torch.tensor([[5, 7]])
    )
    graph = sc.TensorGraph.from_model(model, saes=[sae])
    spans = sc.attribute_spans(
        model, graph, task, of="nodes", method="eap", intervention="zero", metric="logit_diff"
    )
    table = dense(found, found.attributions())
    start, block = next(v for v in graph.src_starts.values() if v[1].kind == "feature")
    for p in range(len(tokens)):
        own = spans[f"@{p}"].values[start : start + len(block)]
        torch.testing.assert_close(table[p], -own, rtol=1e-6, atol=1e-9)


def test_quantiles_are_shares_of_the_dense_array():
    model, sae, tokens = problem("gpt2", "resid_post", 0)
    rows, _ = random_tokens(model, 4, 6)
    corpus = Corpus.of_prompts(rows.tolist(), Vocabulary(tuple(f"w{i}" for i in range(D_VOCAB))))
    _, cache = model.run_with_cache(rows)
    values = sae.encode(cache["blocks.0.hook_resid_post"]).flatten(0, 1).detach().numpy()
    activity = made_of(corpus, values)
    found = OnPrompt.of(model, sae, tokens)
    of_counted, of_active = found.quantiles(activity)
    single = values.astype(np.float32)
    for i in range(len(found)):
        own, a = single[:, found.features[i]], np.float32(found.activations[i])
        assert of_counted[i] == pytest.approx((own <= a).mean())
        assert of_active[i] == pytest.approx((own[own != 0] <= a).mean())


# -- one run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("measured", [None, MEASURED])
def test_all_comes_from_one_run_and_one_backward_pass(measured, monkeypatch):
    model, sae, tokens = problem("gpt2", "mlp_out", 0)
    OnPrompt.of(model, sae, tokens)  # a model is checked once, by runs of its own
    runs, backward, grad = [], [], torch.autograd.grad

    def counted(*args, **options):
        backward.append(args)
        return grad(*args, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    handle = model.blocks[0].mlp.register_forward_hook(lambda *_: runs.append(1))
    before = Adapter.of(model).fingerprint
    found = OnPrompt.of(model, sae, tokens, measured)
    found.loss_effects(), found.logit_effects([1, 2]), found.likely(3), found.log_probs()
    if measured is not None:
        found.attributions()
    handle.remove()
    assert len(runs) == 1
    assert len(backward) == (measured is not None)
    assert Adapter.of(model).fingerprint == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("site", SITES)
def test_a_metric_changes_no_other_score_and_positions_are_slices(site):
    model, sae, tokens = problem("llama", site, 0)
    plain, with_slope = (OnPrompt.of(model, sae, tokens, m) for m in (None, MEASURED))
    np.testing.assert_allclose(plain.loss_effects(), with_slope.loss_effects(), rtol=1e-9)
    assert plain.features.tolist() == with_slope.features.tolist()
    table, p = prompt_scores(model, sae, tokens, 3), plain.positions == 3
    each = dict(zip(plain.features[p].tolist(), plain.loss_effects()[p.numpy()], strict=True))
    assert dict(zip(table["feature"], table["loss_effect"], strict=True)) == pytest.approx(each)
    np.testing.assert_allclose(
        with_slope.at(3).attributions(), with_slope.attributions()[p.numpy()], rtol=1e-9
    )


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2"])
def test_both_kinds_of_a_model_give_the_same_scores(shape):
    each, models = [], TWINS[shape](dtype=torch.float64)
    sae = dictionary(models[0], "attn_out", 0)
    for model in models:
        tokens, _ = random_tokens(model, 1, 6)
        found = OnPrompt.of(model, sae, tokens[0], MEASURED)
        scores = found.loss_effects(), found.logit_effects([3]), found.attributions()
        each.append([found.features.tolist(), *scores])
    one, other = each
    assert one[0] == other[0]
    for a, b in zip(one[1:], other[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_likely_tokens_and_probabilities_are_the_models_own():
    model, sae, tokens = problem("gemma2")
    found = OnPrompt.of(model, sae, tokens)
    log_probs = model(tokens[None])[0].log_softmax(-1)
    ids, chances = found.likely(4)
    assert ids == log_probs[-1].topk(4).indices.tolist()
    assert chances == pytest.approx(log_probs[-1].topk(4).values.exp().tolist())
    own = log_probs[:-1].gather(1, tokens[1:, None])[:, 0]
    torch.testing.assert_close(found.log_probs(), own.detach())


# -- at the edges --------------------------------------------------------------------------------


def test_a_prompt_of_one_token_and_one_without_an_active_feature():
    model, sae, tokens = problem("gpt2")
    found = OnPrompt.of(model, sae, tokens[:1], MEASURED)
    assert len(found) > 0
    assert np.isnan(found.loss_effects()).all()
    assert np.isfinite(found.attributions()).all()
    assert np.isfinite(found.logit_effects([1])).all()
    assert found.log_probs().shape == (0,)
    quiet = sc.Dictionary(**{**vars(dictionary(model, "resid_post", 0)), "b_enc": sae.b_enc - 100})
    found = OnPrompt.of(model, quiet, tokens, MEASURED)
    assert len(found) == 0
    assert found.loss_effects().shape == found.attributions().shape == (0,)
    assert found.logit_effects([1, 2]).shape == (0, 2)


def test_what_cannot_be_attributed_is_refused():
    model, sae, tokens = problem("gpt2")
    make = partial(OnPrompt.of, model, sae, tokens)
    with pytest.raises(OptionError, match="no metric"):
        make().attributions()
    with pytest.raises(MetricError, match="no gradient"):
        make(Measured(sc.metrics.kl))
    with pytest.raises(MetricError, match="not differentiable"):
        make(Measured(sc.metrics.accuracy, (1,)))
    with pytest.raises(TaskError, match="end at 39"):
        make(Measured(sc.metrics.cross_entropy, (D_VOCAB,)))
    with pytest.raises(MetricError, match="needs a wrong answer"):
        make(Measured(sc.metrics.logit_diff, (1,)))
