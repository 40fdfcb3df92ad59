"""Steering against hand-written hooks, what each change leaves, and the model as it was."""

from __future__ import annotations

import pytest
import torch

from sae_circuits import directions, intervene, load_model, load_saes, steering
from sae_circuits.errors import DictionaryError, GraphError, OptionError, UnknownName
from sae_circuits.graph import TensorGraph
from shapes import HOOKED, HOOKED_CONFIGS, TWINS, random_task, random_tokens
from small_dictionaries import dictionary

SITES = {
    "z": {"gate": "topk"},
    "attn_out": {"gate": "threshold"},
    "mlp_out": {"scaled": True},
    "resid_pre": {"gate": "gated"},
    "resid_mid": {},
    "resid_post": {"gate": "abstopk"},
}
CHANGES = {
    "add": ("add", 1.5),
    "set": ("set", -0.75),
    "scale": ("scale", 3.0),
    "remove": "remove",
    "project": "project",
}


def stands(shape, kind):
    cfg = HOOKED_CONFIGS[shape]
    if cfg.get("attn_only") and (kind == "resid_mid" or kind.startswith("mlp")):
        return False
    return not (cfg.get("parallel_attn_mlp") and kind == "resid_mid")


def hook_of(kind, layer):
    return f"blocks.{layer}.{'attn.hook_z' if kind == 'z' else f'hook_{kind}'}"


def by_hand(model, d, tokens, features, change, *, positions=None, strength=1.0):
    """Logits with some features of an SAE changed, by a hook on a HookedTransformer."""

    def edit(x, hook):
        flat = x.flatten(2)
        new = flat.clone()
        for pos in range(flat.shape[1]) if positions is None else positions:
            read = flat[:, pos]
            f = d.encode(read)
            then = f.clone()
            if change == "project":
                rows = d.W_dec[features]
                along = torch.linalg.lstsq(rows.T, read.T).solution.T @ rows
                new[:, pos] = read - strength * along
                continue
            kind, amount = ("scale", 0.0) if change == "remove" else change
            for i in features:
                then[:, i] = {"add": f[:, i] + amount, "set": 0 * f[:, i] + amount,
                              "scale": f[:, i] * amount}[kind]  # fmt: skip
            out = d.decode(then, read) - d.decode(f, read)
            new[:, pos] = read + strength * out
        return new.view_as(x)

    name = hook_of(d.reads.kind, d.reads.layer)
    return model.run_with_hooks(tokens, fwd_hooks=[(name, edit)])


@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("shape", HOOKED)
def test_each_change_equals_a_hand_written_hook(shape, kind):
    if not stands(shape, kind):
        pytest.skip(f"nothing stands at {kind} of {shape}")
    model = HOOKED[shape]()
    d = dictionary(model, kind, 0, **SITES[kind])
    tokens, _ = random_tokens(model, 2, 6)
    clean = model(tokens)
    for name, change in CHANGES.items():
        for positions, strength in ((None, 1.0), ([1, 4], 0.6)):
            with steering(
                model, d, dict.fromkeys([1, 4, 2], change), positions=positions, strength=strength
            ):
                fast = model(tokens)
            slow = by_hand(
                model, d, tokens, [1, 4, 2], change, positions=positions, strength=strength
            )
            torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-10)
            assert (fast - clean).abs().max() > 1e-4, name
    assert torch.equal(model(tokens), clean)


@pytest.mark.parametrize("shape", TWINS)
def test_both_kinds_of_model_are_steered_alike(shape):
    hooked, bridge = TWINS[shape]()
    tokens, _ = random_tokens(hooked, 2, 6)
    for kind in SITES:
        if not stands(shape, kind):
            continue
        d = dictionary(hooked, kind, 1, **SITES[kind])
        for change in CHANGES.values():
            found = []
            for model in (hooked, bridge):
                with steering(model, d, {3: change}, positions=[2, 5]), torch.no_grad():
                    found.append(model(tokens))
            torch.testing.assert_close(*found, rtol=2e-3, atol=2e-4)


def test_several_changes_at_once_follow_their_own_features():
    model = HOOKED["llama"]()
    d = dictionary(model, "resid_post", 0)
    task = random_task(model)
    graph = TensorGraph.from_model(model, saes=[d])
    changes = {1: ("add", 1.0), 2: ("set", 2.0), 5: ("scale", -1.0)}
    expected = intervene(model, graph, task, {f"post0.f{i}": c for i, c in changes.items()})
    with steering(model, d, changes):
        done = model(task.clean)[:, -1]
    torch.testing.assert_close(done, expected.logits, rtol=1e-10, atol=1e-12)


def test_a_transcoder_reads_anew_in_every_run():
    model = HOOKED["gpt2"]()
    d = dictionary(model, "mlp_in", 0, writes="mlp_out", skip=True)
    graph = TensorGraph.from_model(model, saes=[d])
    changes = dict.fromkeys(range(7), ("scale", 4.0))
    own = {f"m0.f{i}": change for i, change in changes.items()}
    tasks = [random_task(model, seed=seed) for seed in (0, 1)]
    expected = [intervene(model, graph, task, own).logits for task in tasks]
    with steering(model, d, changes):
        found = [model(task.clean)[:, -1] for task in tasks]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_nested_blocks_follow_one_another():
    model = HOOKED["gpt2"]()
    tokens, _ = random_tokens(model, 2, 6)
    out, mid = (dictionary(model, kind, 0) for kind in ("mlp_out", "resid_mid"))
    with steering(model, out, {1: ("set", 2.0)}), steering(model, mid, {2: ("set", -1.0)}):
        found = model(tokens)

    def set_to(d, feature, value):
        return lambda x, hook: x + (value - d.encode(x))[..., [feature]] * d.W_dec[feature]

    hooks = [
        ("blocks.0.hook_resid_mid", set_to(mid, 2, -1.0)),
        ("blocks.0.hook_mlp_out", set_to(out, 1, 2.0)),
    ]
    torch.testing.assert_close(found, model.run_with_hooks(tokens, fwd_hooks=hooks))
    with steering(model, mid, {2: ("set", -1.0)}), steering(model, mid, {2: ("scale", 3.0)}):
        found = model(tokens)

    def both(x, hook):
        x = set_to(mid, 2, -1.0)(x, hook)
        return x + 2 * mid.encode(x)[..., [2]] * mid.W_dec[2]

    hooks = [("blocks.0.hook_resid_mid", both)]
    torch.testing.assert_close(found, model.run_with_hooks(tokens, fwd_hooks=hooks))


# -- what is left --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "after"), [("resid_pre", "resid_pre"), ("mlp_out", "mlp_out")])
def test_projecting_out_leaves_nothing_along_the_directions(kind, after):
    model = HOOKED["gpt2"]()
    d = dictionary(model, kind, 1)
    tokens, _ = random_tokens(model, 2, 6)
    found = []
    point = model.hook_dict[hook_of(after, 1)]
    with steering(model, d, dict.fromkeys([0, 3], "project")):
        handle = point.register_forward_hook(lambda _m, a, out: found.append(out))
        model(tokens)
        handle.remove()
    along = found[0] @ d.W_dec[[0, 3]].T
    assert along.abs().max() < 1e-12
    assert (found[0] @ d.W_dec[1]).abs().max() > 0.01


def test_setting_a_direction_makes_its_activation_that():
    model = HOOKED["qwen3"]()
    d = directions.of_vectors("resid_post.0", {"a": torch.randn(20).double()}, bias=0.5)
    tokens, _ = random_tokens(model, 2, 6)
    found = []
    with steering(model, d, {"a": ("set", 2.25)}, positions=[1, 3]):
        point = model.blocks[1].hook_resid_pre
        handle = point.register_forward_hook(lambda _m, a, out: found.append(out))
        model(tokens)
        handle.remove()
    read = d.encode(found[0])[..., 0]
    torch.testing.assert_close(read[:, [1, 3]], torch.full((2, 2), 2.25).double())
    clean = d.encode(model.run_with_cache(tokens)[1]["blocks.0.hook_resid_post"])[..., 0]
    torch.testing.assert_close(read[:, [0, 2, 4, 5]], clean[:, [0, 2, 4, 5]])


@pytest.mark.parametrize("kind", SITES)
def test_what_changes_nothing_leaves_logits_bit_for_bit(kind):
    model = load_model("demo")
    d = dictionary(model, kind, 1, **SITES[kind])
    tokens, _ = random_tokens(model, 2, 6)
    clean = model(tokens)
    for change, strength in ((("add", 0.0), 1.0), (("scale", 1.0), 1.0), ("project", 0.0)):
        with steering(model, d, change, strength=strength):
            assert torch.equal(model(tokens), clean)


# -- the model is as it was ----------------------------------------------------------------------


@pytest.mark.parametrize("load", ["hooked", "bridge"])
def test_the_model_is_as_it_was_after_an_exception(load):
    model = load_model("demo", kind=load)
    (d,) = load_saes("demo", ["resid_post.1"])
    tokens = model.to_tokens("Michael and Rebecca went to the beach")
    clean = model(tokens)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with (
        pytest.raises(RuntimeError, match="on the way"),
        steering(model, d, {3: ("add", 9.0)}, positions=1),
    ):
        raise RuntimeError("on the way")
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert torch.equal(model(tokens), clean)


@pytest.mark.parametrize("load", ["hooked", "bridge"])
@pytest.mark.parametrize("positions", [None, [2], [18, 19]])
def test_writing_with_a_cache_is_writing_without(load, positions):
    model = load_model("demo", kind=load)
    (d,) = load_saes("demo", ["resid_post.1"])
    prompt = "Afterwards, Michael and Rebecca went to the beach, and Michael gave a map to"
    tokens = model.to_tokens(prompt)
    how = {"max_new_tokens": 6, "do_sample": False, "verbose": False, "stop_at_eos": False}
    said = []
    for cached in (True, False):
        with steering(model, d, {228: ("add", 6.0), 3: ("add", 5.0)}, positions=positions):
            said.append(model.generate(tokens, use_past_kv_cache=cached, **how))
    assert torch.equal(*said)
    if positions != [2]:  # whose change is too weak to be seen in the text
        assert not torch.equal(model.generate(tokens, **how), said[0])


# -- bad input -----------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "more", "error", "message"),
    [
        ({"c": ("add", 1.0)}, {}, UnknownName, "'c'"),
        ({7: ("add", 1.0)}, {}, UnknownName, "0 to 1"),
        ({}, {}, OptionError, "no changes"),
        ({"a": ("push", 1.0)}, {}, OptionError, "'push'"),
        ({"a": "erase"}, {}, OptionError, "'erase'"),
        ({"a": ("add", NAN)}, {}, OptionError, "amount of feature 'a' is nan"),
        ({"a": "remove", 0: "project"}, {}, OptionError, "two changes"),
        ("remove", {"strength": NAN}, OptionError, "strength is nan"),
        ("remove", {"positions": -1}, OptionError, "position -1"),
        ("remove", {"positions": [3, 16]}, OptionError, "position 16 .* 0 to 15"),
        ("remove", {"positions": []}, OptionError, "no positions"),
    ],
)
def test_bad_changes_are_refused_before_the_model_runs(changes, more, error, message):
    model = HOOKED["gpt2"]()
    d = directions.of_vectors("resid_post.0", dict(zip("ab", torch.eye(20)[:2], strict=True)))
    with pytest.raises(error, match=message):
        steering(model, d, changes, **more)


def test_dictionaries_of_other_models_are_refused():
    model = HOOKED["gpt2"]()
    vector = {"a": torch.ones(20)}
    for site, change, message in (
        ("resid_post.2", {"a": torch.ones(20)}, "no layer 2"),
        ("resid_post.1", {"a": torch.ones(21)}, "21 wide at resid_post.1"),
    ):
        with pytest.raises(DictionaryError, match=message):
            steering(model, directions.of_vectors(site, change), "remove")
    other = directions.of_vectors("resid_post.1", vector, model="pythia-70m")
    with pytest.raises(DictionaryError, match="trained on 'pythia-70m'"):
        steering(model, other, "remove")
    with pytest.raises(DictionaryError, match="is a name"):
        steering(model, "demo", "remove")
    with pytest.raises(DictionaryError, match="2 dictionaries"):
        steering(model, [directions.of_vectors("resid_post.1", vector)] * 2, "remove")
    mid = directions.of_vectors("resid_mid.0", vector)
    with pytest.raises(GraphError, match="no stream between"):
        steering(HOOKED["pythia"](), mid, "remove")
