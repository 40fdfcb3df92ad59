"""Activations over a corpus, against the model and the SAE run by themselves."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sae_circuits as sc
from activity import small_corpus
from sae_circuits.errors import (
    CorpusError,
    DictionaryError,
    NumericalError,
    OptionError,
    OutputError,
    StoreError,
    UnknownName,
)
from sae_circuits.features.extraction import LEAST, extract
from sae_circuits.features.masks import Masks
from sae_circuits.features.sources import DictionarySource, DirectionSource, HeldSource
from shapes import TWINS, hooked
from small_saes import random_sae

LENGTHS = (9, 1, 17, 4, 16, 2)
HOOKS = {
    "z": "blocks.1.attn.hook_z",
    "mlp_out": "blocks.1.hook_mlp_out",
    "mlp_normalized": "blocks.1.ln2.hook_normalized",
    "mlp_in": "blocks.1.mlp.hook_in",
    "attn_out": "blocks.1.hook_attn_out",
    "resid_pre": "blocks.1.hook_resid_pre",
    "resid_mid": "blocks.1.hook_resid_mid",
    "resid_post": "blocks.1.hook_resid_post",
}


@cache
def model_of(shape: str = "gpt2"):
    return hooked(shape, n_ctx=40)


def corpus_for(model, seed: int = 0):
    return small_corpus(LENGTHS, n_vocab=model.cfg.d_vocab, seed=seed)


def sae_for(model, hook: str, kind: str = "standard", n: int = 24, **options):
    width = model.cfg.d_head * model.cfg.n_heads if hook.endswith("hook_z") else model.cfg.d_model
    return random_sae(kind, hook, width, n, dtype="float64", **options)


def dense_of(activations) -> np.ndarray:
    """[token, feature], 0 on tokens that do not count."""
    columns = activations.columns(np.arange(activations.n_features))
    found = np.zeros((activations.corpus.n_tokens, activations.n_features), dtype=np.float32)
    found[columns.places, columns.owner] = columns.values
    return found


def mlp_input(model, tokens):
    """What the MLP of layer 1 gets, its norm's gain included."""
    kept = []
    handle = model.blocks[1].mlp.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    model(tokens)
    handle.remove()
    return kept[0]


def run_alone(model, sae, hook: str, corpus) -> np.ndarray:
    """Every prompt by itself, through transformer-lens and sae-lens."""
    rows = []
    for prompt in corpus:
        tokens = torch.as_tensor(prompt[None].astype(np.int64))
        if hook == HOOKS["mlp_in"]:
            x = mlp_input(model, tokens)
        else:
            _, kept = model.run_with_cache(tokens, names_filter=hook)
            x = kept[hook]
        if hook.endswith("hook_z") and getattr(sae.cfg, "reshape_activations", "") != "hook_z":
            x = x.flatten(2)
        rows.append(sae.encode(x)[0].detach())
    return torch.cat(rows).float().numpy()


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2", "pythia"])
@pytest.mark.parametrize("site", ["z", "mlp_normalized", "mlp_out", "attn_out", "resid_post"])
def test_activations_are_those_of_model_and_sae_prompt_by_prompt(shape, site):
    model, hook = model_of(shape), HOOKS[site]
    sae, corpus = sae_for(model, hook), corpus_for(model)
    found = dense_of(extract(DictionarySource.of(model, sae), corpus))
    expected = run_alone(model, sae, hook, corpus)
    assert (expected != 0).any(0).sum() > 5
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["topk", "jumprelu", "gated", "transcoder"])
def test_every_kind_of_dictionary(kind):
    model = model_of()
    options = {"k": 4} if kind == "topk" else {}
    if kind == "transcoder":
        options = {"hook_out": HOOKS["mlp_out"], "d_out": model.cfg.d_model}
        options["apply_b_dec_to_input"] = False
    hook = HOOKS["mlp_in"] if kind == "transcoder" else HOOKS["resid_mid"]
    sae, corpus = sae_for(model, hook, kind, **options), corpus_for(model)
    found = dense_of(extract(DictionarySource.of(model, sae), corpus))
    expected = run_alone(model, sae, hook, corpus)
    assert (expected != 0).any(0).sum() > 5
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_both_kinds_of_model_agree():
    own, bridge = TWINS["gpt2"]()
    sae = random_sae("standard", HOOKS["resid_post"], own.cfg.d_model, 24, dtype="float32")
    corpus = small_corpus([9, 1, 16, 4], n_vocab=own.cfg.d_vocab)
    a, b = (dense_of(extract(DictionarySource.of(m, sae), corpus)) for m in (own, bridge))
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def same(a, b) -> bool:
    x, y = (one.columns(np.arange(one.n_features)) for one in (a, b))
    return all(
        np.array_equal(getattr(x, name), getattr(y, name))
        for name in ("starts", "places", "values")
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 9))
def test_no_bit_depends_on_batches_and_halves_merge_to_the_whole(batch_tokens, cut, seed):
    model = model_of()
    source = DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"], "topk", k=5))
    corpus = corpus_for(model, seed)
    whole = extract(source, corpus)
    assert same(extract(source, corpus, batch_tokens=batch_tokens), whole)
    parts = corpus[:cut], corpus[cut:]
    halves = [extract(source, part, batch_tokens=batch_tokens) for part in parts]
    assert same(halves[0] + halves[1], whole)
    assert (halves[0] + halves[1]).corpus.fingerprint == corpus.fingerprint
    assert sum(half.n_counted for half in halves) == whole.n_counted


def test_any_order_of_features_gives_the_same_columns():
    model = model_of()
    found = extract(DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"])), corpus_for(model))
    order = np.random.default_rng(0).permutation(24)
    whole, some = found.columns(np.arange(24)), found.columns(order)
    for i, feature in enumerate(order):
        for a, b in zip(some.column(i), whole.column(int(feature)), strict=True):
            np.testing.assert_array_equal(a, b)
    blocks = list(extract(found_source(found, model), found.corpus, memory=LEAST).blocks())
    assert np.concatenate([block.features for block in blocks]).tolist() == list(range(24))


def found_source(found, model):
    return DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"]))


def test_shards_in_files_hold_the_same_and_a_run_that_was_cut_off_goes_on(tmp_path, monkeypatch):
    model = model_of()
    source = DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"]))
    corpus = corpus_for(model)
    monkeypatch.setattr("sae_circuits.features.extraction_job.FEWEST", 5)  # a shard a prompt
    whole = extract(source, corpus, out=tmp_path / "whole", batch_tokens=5)
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) == len(LENGTHS)
    assert (tmp_path / "whole" / "manifest.json").exists()
    assert same(extract(source, corpus), whole)

    class Cut:
        """Breaks off after three reads."""

        def __init__(self):
            self.left = 3

        def __getattr__(self, name):
            return getattr(source, name)

        def read(self, *args):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return source.read(*args)

    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        extract(Cut(), corpus, out=part, batch_tokens=5)
    held = sorted(part.glob("*.safetensors"))
    assert len(held) == 3
    before = [path.stat().st_mtime_ns for path in held]
    resumed = extract(Cut(), corpus, out=part, batch_tokens=5)  # three reads are enough
    assert [path.stat().st_mtime_ns for path in held] == before
    assert same(resumed, whole)
    for a in sorted((tmp_path / "whole").iterdir()):
        assert a.read_bytes() == (part / a.name).read_bytes()


def test_other_data_in_the_folder_is_refused(tmp_path):
    model = model_of()
    source = DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"]))
    corpus = corpus_for(model)
    extract(source, corpus, out=tmp_path)
    other_sae = DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"], seed=5))
    for other in (
        (source, corpus_for(model, seed=1), None),
        (source, corpus, Masks(skip_positions=[0])),
        (other_sae, corpus, None),
    ):
        with pytest.raises(OutputError, match="holds shards of another run"):
            extract(*other, out=tmp_path)


def test_masks_decide_which_tokens_count():
    model, hook = model_of(), HOOKS["mlp_out"]
    sae, corpus = sae_for(model, hook), corpus_for(model)
    source = DictionarySource.of(model, sae)
    whole = dense_of(extract(source, corpus))
    norms = source.read(corpus, 0, corpus.n_prompts).norm(dim=1).numpy()
    limit = float(np.median(norms))
    found = extract(source, corpus, Masks(skip_positions=[0, -1], max_norm=limit), batch_tokens=7)
    starts = corpus.starts
    out = np.zeros(corpus.n_tokens, dtype=bool)
    out[starts[:-1]] = out[starts[1:] - 1] = True
    out |= norms > limit
    assert 0 < out.sum() < corpus.n_tokens
    np.testing.assert_array_equal(found.counted, ~out)
    np.testing.assert_array_equal(dense_of(found), np.where(out[:, None], 0, whole))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs(dtype):
    model = copy.deepcopy(model_of()).to(dtype)
    (exact,) = sc.load_saes(sae_for(model, HOOKS["resid_post"]))
    corpus = corpus_for(model)
    found = dense_of(extract(DictionarySource.of(model, exact.to("cpu", dtype)), corpus))
    want = dense_of(extract(DictionarySource.of(model_of(), exact), corpus))
    assert np.abs(found - want).max() < (0.2 if dtype == torch.bfloat16 else 0.03) * want.max()


def test_named_directions_keep_their_signs():
    model, corpus = model_of(), corpus_for(model_of())
    g = torch.Generator().manual_seed(0)
    vectors = {
        name: torch.randn(model.cfg.d_model, generator=g, dtype=torch.float64)
        for name in ("truth", "size")
    }
    source = DirectionSource.of(model, HOOKS["resid_mid"], vectors)
    found = extract(source, corpus)
    assert found.names == ("truth", "size")
    x = source.read(corpus, 0, corpus.n_prompts)
    expected = torch.stack([x @ v for v in vectors.values()], 1).float().numpy()
    assert (expected < 0).any()
    np.testing.assert_allclose(dense_of(found), expected, rtol=1e-6)
    for bad, said in (
        ({}, "no directions"),
        ({"a": torch.ones(3)}, r"\[3\]"),
        ({"a": vectors["size"] * torch.nan}, "NaN"),
    ):
        with pytest.raises(DictionaryError, match=said):
            DirectionSource.of(model, HOOKS["resid_mid"], bad)


def test_activations_that_somebody_holds():
    corpus = corpus_for(model_of())
    held = torch.randn(corpus.n_tokens, 4).relu()
    np.testing.assert_array_equal(dense_of(extract(HeldSource(held), corpus)), held.numpy())
    with pytest.raises(CorpusError, match="one row for each"):
        extract(HeldSource(held[1:]), corpus)


def test_one_feature_is_enough():
    model = model_of()
    found = extract(
        DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"], n=1)), corpus_for(model)
    )
    assert found.n_features == 1
    assert [block.features.tolist() for block in found.blocks()] == [[0]]


def test_model_and_sae_come_back_unchanged():
    model, sae = model_of(), sae_for(model_of(), HOOKS["z"])
    before = copy.deepcopy(sae.state_dict()), dict(sae.cfg.to_dict())
    grads = [p.requires_grad for p in model.parameters()]
    extract(DictionarySource.of(model, sae), corpus_for(model))
    assert all(torch.equal(sae.state_dict()[name], x) for name, x in before[0].items())
    assert dict(sae.cfg.to_dict()) == before[1]
    assert [p.requires_grad for p in model.parameters()] == grads
    assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_what_cannot_be_run_is_refused_before_any_work():
    model = model_of()
    sae = sae_for(model, HOOKS["mlp_out"])
    source, corpus = DictionarySource.of(model, sae), corpus_for(model)
    n_ctx, d_vocab = model.cfg.n_ctx, model.cfg.d_vocab
    with pytest.raises(CorpusError, match=f"n_ctx={n_ctx}"):
        extract(source, small_corpus([n_ctx + 1]))
    with pytest.raises(CorpusError, match=f"{d_vocab:,}"):
        extract(source, small_corpus([n_ctx] * 40, n_vocab=4 * d_vocab))
    with pytest.raises(OptionError, match="memory=1"):
        extract(source, corpus, memory=1)
    with pytest.raises(OptionError, match="batch_tokens=0"):
        extract(source, corpus, batch_tokens=0)
    with pytest.raises(DictionaryError, match="2 dictionaries"):
        DictionarySource.of(model, [sae, sae])
    wrong = random_sae("standard", HOOKS["mlp_out"], model.cfg.d_model + 1, 8)
    with pytest.raises(DictionaryError, match="wide"):
        DictionarySource.of(model, wrong)
    found = extract(source, corpus)
    with pytest.raises(UnknownName, match="no feature 24"):
        found.columns([3, 24])


def test_activations_that_are_not_finite_are_named():
    model = copy.deepcopy(model_of())
    corpus = corpus_for(model)
    token = int(corpus.prompt(2)[3])
    with torch.no_grad():
        model.embed.W_E[token] = torch.nan
    first = np.flatnonzero(corpus.tokens == token)[0]
    (prompt,), (pos,) = corpus.locate(np.array([first]))
    source = DictionarySource.of(model, sae_for(model, "blocks.0.hook_resid_pre"))
    with pytest.raises(NumericalError, match=f"prompt {prompt}, position {pos} "):
        extract(source, corpus)


def test_stores_of_other_dictionaries_are_not_merged():
    model, corpus = model_of(), corpus_for(model_of())
    a = extract(DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"])), corpus)
    b = extract(DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"], seed=3)), corpus)
    with pytest.raises(StoreError, match="model or dictionary"):
        _ = a + b
    c = extract(
        DictionarySource.of(model, sae_for(model, HOOKS["mlp_out"])), corpus, Masks(special=True)
    )
    with pytest.raises(StoreError, match="masks"):
        _ = a + c


def test_the_bundled_saes_run():
    model = sc.load_model("demo")
    corpus = sc.demo_corpus(2000, model=model)
    for sae in sc.load_saes("demo", ["z.1", "transcoder.2"]):
        found = extract(DictionarySource.of(model, sae), corpus)
        assert found.n_active == found.counts.sum() > found.n_counted
