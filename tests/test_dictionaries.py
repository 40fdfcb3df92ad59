"""Dictionaries against the classes of sae-lens themselves, and their gates against autograd."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import save_file

import sae_circuits as sc
from sae_circuits.errors import DictionaryError, FileFormatError, OptionError, UnknownName
from sae_circuits.models.dictionaries import Dictionary, Site, load_saes
from sae_circuits.models.dictionaries.gates import (
    AbsoluteTopK,
    Gated,
    Threshold,
    TopK,
    identity,
    open_at,
    relu,
)
from small_saes import random_sae

D_IN, FEATURES, D_OUT = 12, 30, 10
HOOK, HOOK_OUT = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"

# Architectures of sae-lens with options; each becomes a random SAE in float64.
CASES = {
    "standard": {},
    "standard, b_dec not taken off": {"apply_b_dec_to_input": False},
    "standard, layer norm": {"normalize_activations": "layer_norm"},
    "standard, constant norm": {"normalize_activations": "constant_norm_rescale"},
    "standard, z": {"reshape_activations": "hook_z", "hook": "blocks.1.attn.hook_z"},
    "topk": {"k": 5},
    "topk, rescaled": {"k": 5, "rescale_acts_by_decoder_norm": True},
    "topk, layer norm": {"k": 5, "normalize_activations": "layer_norm"},
    "abstopk": {"k": 5},
    "abstopk, rescaled": {"k": 5, "rescale_acts_by_decoder_norm": True},
    "jumprelu": {},
    "gated": {},
    "temporal": {"n_attn_layers": 0, "kval_topk": 5},
    "temporal, untied": {
        "n_attn_layers": 0,
        "sae_diff_type": "relu",
        "tied_weights": False,
        "normalize_activations": "constant_scalar_rescale",
        "activation_normalization_factor": 0.3,
    },
    "temporal, b_dec not taken off": {"n_attn_layers": 0, "apply_b_dec_to_input": False},
    "transcoder": {"d_out": D_OUT, "apply_b_dec_to_input": False},
    "skip_transcoder": {"d_out": D_OUT, "apply_b_dec_to_input": False},
    "jumprelu_transcoder": {"d_out": D_OUT, "apply_b_dec_to_input": False},
    "jumprelu_skip_transcoder": {"d_out": D_OUT, "apply_b_dec_to_input": False},
}


def make(case: str):
    """A random SAE of sae-lens."""
    kind, options = case.partition(",")[0], {"hook": HOOK, **CASES[case]}
    if "transcoder" in kind:
        options["hook_out"] = HOOK_OUT
    return random_sae(kind, d_in=D_IN, n_features=FEATURES, dtype="float64", **options)


def inputs(sae, case: str) -> torch.Tensor:
    x = torch.randn(4, 7, D_IN, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.unflatten(-1, (3, 4)) if case.endswith("z") else x


@pytest.mark.parametrize("case", CASES)
def test_features_and_output_are_those_of_the_class_itself(case):
    sae, d = make(case), load_saes(make(case))[0]
    x = inputs(sae, case)
    flat = x.flatten(2)
    assert (sae.encode(x) != 0).any(0).any(0).sum() > 5  # a test on dead features shows nothing
    torch.testing.assert_close(d.encode(flat), sae.encode(x), rtol=1e-12, atol=1e-12)
    whole = sae(x).flatten(2)
    torch.testing.assert_close(d(flat), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        d.error(flat, torch.ones_like(whole)), 1 - whole, rtol=1e-12, atol=1e-12
    )
    assert d.active(flat).equal(sae.encode(x).detach() != 0)


@pytest.mark.parametrize("case", [c for c in CASES if "norm" not in c])
def test_gate_and_encoder_rows_are_the_derivative_of_the_class_itself(case):
    sae, d = make(case), load_saes(make(case))[0]
    x = inputs(sae, case).requires_grad_()
    b = torch.randn(4, 7, FEATURES, dtype=torch.float64)
    (slope,) = torch.autograd.grad((sae.encode(x) * b).sum(), x)
    by_hand = (b * d.gate(d.pre_activation(x.detach().flatten(2)))) @ d.W_enc.T
    torch.testing.assert_close(by_hand, slope.flatten(2), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("case", ["standard", "jumprelu", "gated", "transcoder"])
def test_folding_decoder_norms_changes_no_output(case):
    sae, folded = make(case), make(case)
    folded.fold_W_dec_norm()
    x = inputs(sae, case)
    torch.testing.assert_close(load_saes(folded)[0](x), sae(x), rtol=1e-11, atol=1e-11)


def test_matryoshka_and_batch_top_k_ones_load_as_they_are_saved(tmp_path):
    from sae_lens import saes

    torch.manual_seed(0)
    cfg = saes.MatryoshkaBatchTopKTrainingSAEConfig(
        d_in=D_IN, d_sae=FEATURES, k=4, matryoshka_widths=[10, 30], dtype="float64"
    )
    cfg.metadata.hook_name = "blocks.0.hook_resid_pre"
    training = saes.MatryoshkaBatchTopKTrainingSAE(cfg)
    training.topk_threshold.fill_(0.5)
    with pytest.raises(DictionaryError, match="save_inference_model"):
        load_saes(training)
    training.save_inference_model(tmp_path / "a")
    sae = saes.JumpReLUSAE.load_from_disk(tmp_path / "a")
    (d,) = load_saes(tmp_path)
    x = torch.randn(5, D_IN, dtype=torch.float64)
    torch.testing.assert_close(d(x), sae(x), rtol=1e-12, atol=1e-12)
    assert d.reads == Site("resid_pre", 0)


@pytest.mark.parametrize("kind", ["matching_pursuit", "temporal"])
def test_classes_without_a_closed_form_are_refused_with_the_reason(kind):
    from sae_lens.registry import get_sae_class

    cls, cfg = get_sae_class(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae = cls(cfg(d_in=256, d_sae=512))
    with pytest.raises(DictionaryError, match="closed form"):
        load_saes(sae)


def test_a_release_comes_by_its_ids(tmp_path, monkeypatch):
    """The hub's cache on disk stands for the hub."""
    sae = random_sae("standard", "blocks.8.hook_resid_pre", 12, 5)
    repository = tmp_path / "models--jbloom--GPT2-Small-SAEs-Reformatted"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123")
    sae.save_model(repository / "snapshots" / "0123" / "blocks.8.hook_resid_pre")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (d,) = load_saes("gpt2-small-res-jb", ["blocks.8.hook_resid_pre"])
    assert (d.name, d.reads) == (
        "gpt2-small-res-jb/blocks.8.hook_resid_pre",
        Site("resid_pre", 8),
    )
    x = torch.randn(3, 12)
    torch.testing.assert_close(d(x), sae(x), rtol=1e-5, atol=1e-5)
    for release, id_, says in (
        ("gpt2-small-res-jb", "blocks.7.hook_resid_pre", "check both names and the network"),
        ("gpt2-small-res-jb", "blocks.99.hook_resid_pre", "not found in release"),
        ("no-such-release", "blocks.8.hook_resid_pre", "'no-such-release' could not be loaded"),
    ):
        with pytest.raises(DictionaryError, match=says):
            load_saes(release, [id_])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("cfg.json", b"{"),
        ("cfg.json", b'{"architecture": "none"}'),
        ("sae_weights.safetensors", b"not a file"),
        ("sae_weights.safetensors", None),
    ],
)
def test_damaged_folders_are_refused(tmp_path, file, content):
    make("topk").save_model(tmp_path / "a")
    load_saes(tmp_path)
    (tmp_path / "a" / file).unlink()
    if content is not None:
        (tmp_path / "a" / file).write_bytes(content)
    with pytest.raises(DictionaryError, match=r"cannot read the dictionary in .*a: "):
        load_saes(tmp_path)


def test_cross_layer_transcoders_write_to_this_and_all_later_mlps(tmp_path):
    torch.manual_seed(0)
    layers, width = 3, 6
    W_enc = torch.randn(layers, FEATURES, width)
    b_enc, b_dec = torch.randn(layers, FEATURES), torch.randn(layers, width)
    threshold = torch.rand(layers, FEATURES)
    W_dec = [torch.randn(FEATURES, layers - i, width) for i in range(layers)]
    for i in range(layers):
        encoder = {f"W_enc_{i}": W_enc[i], f"b_enc_{i}": b_enc[i], f"b_dec_{i}": b_dec[i]}
        save_file({**encoder, f"threshold_{i}": threshold[i]}, tmp_path / f"W_enc_{i}.safetensors")
        save_file({f"W_dec_{i}": W_dec[i]}, tmp_path / f"W_dec_{i}.safetensors")
    found = load_saes(tmp_path)
    x = torch.randn(layers, 5, width)
    made = b_dec[:, None].repeat(1, 5, 1)
    for i in range(layers):
        for token in range(5):
            for feature in range(FEATURES):
                pre = W_enc[i, feature] @ x[i, token] + b_enc[i, feature]
                if pre > threshold[i, feature]:
                    for to in range(i, layers):
                        made[to, token] += pre * W_dec[i][feature, to - i]
    ours = torch.zeros_like(made)
    for i, d in enumerate(found):
        assert d.reads == Site("resid_mid", i)
        for k, site in enumerate(d.writes):
            ours[site.layer] += d.decode(d.encode(x[i]), x[i], to=k)
    torch.testing.assert_close(ours, made, rtol=1e-4, atol=1e-4)
    config = "model_kind: cross_layer_transcoder\nfeature_input_hook: %s\n"
    for hook, kind in (
        ("hook_mlp_in", "resid_mid"),
        ("'mlp.hook_in'", "mlp_in"),
        ('"ln2.hook_normalized"  # before the gain', "mlp_normalized"),
        ("blocks.{layer}.hook_resid_pre", "resid_pre"),
    ):
        (tmp_path / "config.yaml").write_text(config % hook)
        assert [d.reads for d in load_saes(tmp_path)] == [Site(kind, i) for i in range(layers)]
    (tmp_path / "config.yaml").write_text(config % "attn.hook_pattern")
    with pytest.raises(DictionaryError, match=r"no dictionary can stand at .*hook_pattern"):
        load_saes(tmp_path)
    (tmp_path / "config.yaml").write_text("feature_output_hook: hook_resid_post\n")
    with pytest.raises(DictionaryError, match="write to no MLP's output"):
        load_saes(tmp_path)
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "W_dec_1.safetensors").write_bytes(b"not a file")
    with pytest.raises(FileFormatError, match="W_dec_1"):
        load_saes(tmp_path)


# -- bad input -------------------------------------------------------------------------------------


def a_dictionary(**changes) -> Dictionary:
    site = Site("mlp_out", 0)
    weights = {
        "W_enc": torch.ones(4, 3),
        "b_enc": torch.zeros(3),
        "decoders": (torch.ones(3, 4),),
        "b_dec": torch.zeros(4),
    }
    return Dictionary("test", site, (site,), gate=relu, **{**weights, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"W_enc": torch.full((4, 3), torch.nan)}, "W_enc holds NaN"),
        ({"b_dec": torch.zeros(4, dtype=torch.float64)}, "b_dec is torch.float64"),
        ({"decoders": (torch.zeros(3, 4),)}, "dead"),
        ({"decoders": (torch.ones(3, 4), torch.ones(3, 4))}, "2 decoders for 1 sites"),
    ],
)
def test_weights_that_cannot_be_right_are_refused(changes, says):
    with pytest.raises(DictionaryError, match=says):
        a_dictionary(**changes)


def test_shapes_that_do_not_fit_are_refused_where_no_shapes_are_checked():
    code = """
import torch
from sae_circuits.errors import DictionaryError
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.gates import relu

site = Site("mlp_out", 0)
for b_enc, W_dec in ((torch.zeros(2), torch.ones(3, 4)), (torch.zeros(3), torch.ones(2, 4))):
    try:
        Dictionary("test", site, (site,), torch.ones(4, 3), b_enc, (W_dec,), torch.zeros(4), relu)
    except DictionaryError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines() == [
        "'test': b_enc is [2], and [3] fits the rest",
        "'test': decoders[0] is [2, 4], and [3, 4] fits the rest",
    ]


def test_another_models_dictionary_is_refused():
    arch = sc.Architecture.of(sc.load_model("demo"))
    with pytest.raises(DictionaryError, match=r"4 wide at mlp_out\.0, where 'demo' has 64"):
        a_dictionary().require_fits(arch)
    with pytest.raises(DictionaryError, match="trained on 'gpt2-small', and this is 'demo'"):
        a_dictionary(model="gpt2-small").require_fits(arch)
    with pytest.raises(DictionaryError, match="no layer 4"):
        Site("z", 4).width(arch)


def test_places_without_a_dictionary_are_named(tmp_path):
    with pytest.raises(DictionaryError, match=r"blocks\.<layer>\.hook_mlp_out"):
        Site.parse("blocks.0.attn.hook_q")
    with pytest.raises(DictionaryError, match=r"no cfg\.json"):
        load_saes(tmp_path)
    with pytest.raises(DictionaryError, match="give ids"):
        load_saes("gpt2-small-res-jb")
    with pytest.raises(UnknownName, match=r"mlp_out\.0"):
        load_saes("demo", ["mlp_out.00"])
    with pytest.raises(OptionError, match="'sae'"):
        load_saes("demo", kind="saes")


def test_where_a_gate_is_open_is_where_its_mask_is():
    g = torch.Generator().manual_seed(0)
    pre = torch.randn(7, 12, generator=g).round(decimals=1)  # with ties, and zeros
    pre[3] = -1
    pre[4] = 0
    thresholds = torch.rand(12, generator=g)
    bias, scale = torch.randn(12, generator=g), torch.randn(12, generator=g)
    largest = (TopK(3), AbsoluteTopK(3), TopK(20), AbsoluteTopK(20))  # 20: more than there are
    for gate in (identity, relu, Threshold(thresholds), Gated(bias, scale, bias), *largest):
        expected = (gate(pre) & (pre != 0)).flatten().nonzero()[:, 0]
        assert torch.equal(open_at(gate, pre), expected), gate
