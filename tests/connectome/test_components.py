"""Heads and MLPs as ends of connections, against hooks."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from sae_circuits.connectome.asked import METHODS
from sae_circuits.errors import GraphError, OptionError
from sae_circuits.graph import TensorGraph
from shapes import HOOKED, TWINS, random_task
from small_connections import found, problem
from small_dictionaries import dictionary

NAMES = ["a0.h1", "a0.h3", "m0", "a1.h2"]
REFERENCES = ["zero", "mean", "corrupt", ("scale", 2.5)]


def moved(model, task, name, reference, e, sae, feature):
    """The target's mean activation when e of the way is gone of what a component writes."""
    layer = int(name[1])
    hook = f"blocks.{layer}.attn.hook_z" if name[0] == "a" else f"blocks.{layer}.hook_mlp_out"
    real = torch.arange(task.clean.shape[1]) < task.lengths[:, None]
    head = [int(name.split("h")[1])] if name[0] == "a" else slice(None)
    kept = {}

    def other(x):
        if reference == "zero":
            return torch.zeros_like(x)
        if reference == "mean":
            return x[real].mean(0).expand_as(x)
        return kept["corrupt"] if reference == "corrupt" else reference[1] * x

    def edit(x, hook):
        then = other(x)
        where = real.view(*real.shape, *[1] * (x.ndim - 2))
        change = torch.where(where, e * (then - x), 0.0)
        new = x.clone()
        new[:, :, head] += change[:, :, head]
        return new

    with torch.no_grad():
        keep = [(hook, lambda x, hook: kept.update(corrupt=x.clone()))]
        model.run_with_hooks(task.corrupt, fwd_hooks=keep)
        seen = [("blocks.1.hook_resid_post", lambda x, hook: kept.update(post=x.clone()))]
        model.run_with_hooks(task.clean, fwd_hooks=[(hook, edit), *seen])
    f = sae.encode(kept["post"])[..., feature]
    return float((f * real).sum()) / len(task)


def alone(model, task, **way):
    sae = dictionary(model, "resid_post", 1, seed=5)
    done = found(model, [sae], "post1", task, components=NAMES, **way)
    return sae, int(done.target.split("f")[-1]), done


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2", "pythia"])
def test_patching_sets_all_that_a_component_writes(shape, reference):
    model = HOOKED[shape]()
    task = random_task(model, 3, 6, lengths=(6, 4, 5))
    sae, feature, done = alone(model, task, method="patching", reference=reference, batch_size=4)
    before = moved(model, task, "m0", "zero", 0.0, sae, feature)
    for name in NAMES:
        real = moved(model, task, name, reference, 1.0, sae, feature) - before
        assert done[name] == pytest.approx(real, abs=1e-10)


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2", "pythia"])
def test_total_is_the_slope_of_that(shape, reference):
    model = HOOKED[shape]()
    task = random_task(model, 3, 6, lengths=(6, 4, 5))
    sae, feature, done = alone(model, task, method="total", reference=reference, batch_size=2)
    for name in NAMES:
        up, down = (moved(model, task, name, reference, e, sae, feature) for e in (1e-5, -1e-5))
        assert done[name] == pytest.approx((up - down) / 2e-5, abs=1e-6)


@pytest.mark.parametrize("shape", ["gpt2", "llama", "pythia"])
def test_direct_moves_the_stream_that_the_target_reads_alone(shape):
    model = HOOKED[shape]()
    task = random_task(model, 3, 6, lengths=(6, 4, 5))
    sae, feature, done = alone(model, task, method="direct")
    kept = {}
    with torch.no_grad():
        hooks = [
            (f"blocks.{layer}.{hook}", lambda x, hook: kept.update({hook.name: x.clone()}))
            for layer in (0, 1)
            for hook in ("attn.hook_z", "hook_mlp_out", "hook_resid_post")
        ]
        model.run_with_hooks(task.clean, fwd_hooks=hooks)
    real = torch.arange(6) < task.lengths[:, None]
    for name in NAMES:
        layer = int(name[1])
        if name[0] == "m":
            written = kept[f"blocks.{layer}.hook_mlp_out"]
        else:
            head = int(name.split("h")[1])
            z = kept[f"blocks.{layer}.attn.hook_z"][:, :, head]
            written = z @ model.blocks[layer].attn.W_O[head].detach()
        d = -written * real[..., None]
        up, down = (
            float((sae.encode(kept["blocks.1.hook_resid_post"] + e * d)[..., feature] * real).sum())
            for e in (1e-5, -1e-5)
        )
        assert done[name] == pytest.approx((up - down) / 2e-5 / len(task), abs=1e-6)


def test_taking_one_away_is_an_intervention():
    model = HOOKED["gpt2"]()
    task = random_task(model, 3, 6)
    sae, feature, done = alone(model, task, method="patching")
    graph, target = TensorGraph.from_model(model, saes=[sae]), f"post1.f{feature}"
    for name in NAMES:
        ran = sc.intervene(model, graph, task, {name: ("scale", 0.0)}, watch=[target])
        change = (ran.activations[target] - ran.clean_activations[target]).sum()
        assert done[name] == pytest.approx(float(change) / len(task), abs=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_they_stand_beside_features(method):
    """Dictionaries at the same place and components do not disturb each other."""
    for source in ("attn_out", "transcoder", "z"):
        model, saes, place, end, task = problem("gpt2", source)
        features = found(model, saes, end, task, method=method)
        both = found(model, saes, end, task, method=method, components="all")
        only = found(model, saes[1:], end, task, method=method, components="all")
        torch.testing.assert_close(both.values[place], features.values[place])
        assert both.errors == pytest.approx(features.errors)
        assert both.components == pytest.approx(dict(only.components))
        assert list(both.components) == [
            *(f"a0.h{h}" for h in range(4)), "m0", *(f"a1.h{h}" for h in range(4)), "m1"
        ]  # fmt: skip
        assert {name for name, _ in both.top(99)} >= {n for n, x in both.components.items() if x}
        assert "10 components" in repr(both)
        assert set(both.to_pandas()["source"]) == {name for name, _ in both.top(99)}


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_layer_is_the_sum_of_its_heads_where_all_is_linear(method):
    model = HOOKED["gpt2"]()
    task = random_task(model, 2, 5)
    sae = dictionary(model, "resid_post", 1, seed=5)
    done = found(model, [sae], "post1", task, method=method, components="all")
    split = found(model, [dictionary(model, "z", 0), sae], "post1", task, method="total")
    if method == "total":  # the features of z, its error node, and the heads are the same change
        heads = sum(done[f"a0.h{h}"] for h in range(4))
        assert heads == pytest.approx(float(split.values["a0"].sum()) + split.errors["a0"])
    assert done.active == pytest.approx(split.active)


def test_both_kinds_of_models_agree():
    ways = []
    for model in TWINS["llama"]():
        sae, task = dictionary(model, "resid_post", 1, seed=5), random_task(model, 2, 5)
        ways.append(
            [found(model, [sae], "post1", task, method=m, components=NAMES) for m in METHODS]
        )
    for one, other in zip(*ways, strict=True):
        for name in NAMES:
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4)


def test_bad_components_are_refused_in_words():
    model, saes, _, end, task = problem("gpt2")
    ask = lambda **more: sc.connections(model, f"{end}.f1", saes, task, **more)  # noqa: E731
    with pytest.raises(GraphError, match=r"'a2\.h0' is no head or MLP that writes before"):
        ask(components=["a2.h0"])
    with pytest.raises(GraphError, match=r"'m0\.f1' is no head or MLP"):
        ask(components=["m0.f1"])
    with pytest.raises(GraphError, match="or 'all'"):
        ask(components="every")
    with pytest.raises(OptionError, match="which write vectors"):
        ask(components=["m0"], reference=1.5)
    early = [dictionary(model, "resid_mid", 0, seed=5)]
    with pytest.raises(GraphError, match=r"'m0' is no head or MLP that writes before"):
        sc.connections(model, "mid0.f1", early, task, components=["m0"])
