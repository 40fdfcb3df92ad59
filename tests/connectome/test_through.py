"""Direct attribution through a layer's heads and through an MLP, against central differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import DictionaryError, GraphError, OptionError
from shapes import HOOKED, HOOKED_CONFIGS, linear, random_task
from small_connections import EVERY, found, problem, without_gates
from small_dictionaries import dictionary

SHAPES = [shape for shape in HOOKED if not HOOKED_CONFIGS[shape].get("attn_only")]


def kept_run(model, task):
    """What stands at the places of a clean run."""
    kept = {}
    names = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
    names += ("attn.hook_pattern", "attn.hook_v")
    points = [f"blocks.{layer}.{name}" for layer in (0, 1) for name in names]
    points = [point for point in points if point in model.hook_dict]
    with torch.no_grad():
        hooks = [(point, lambda x, hook: kept.update({hook.name: x.clone()})) for point in points]
        model.run_with_hooks(task.clean, fwd_hooks=hooks)
    return kept


def made(model, task, kept, through, moved):
    """How what a component writes changes when the stream that it reads is moved, patterns held."""
    part, layer = through[0], through[1:]
    parallel = model.cfg.parallel_attn_mlp
    start = "hook_resid_pre" if part == "a" or parallel else "hook_resid_mid"
    out = f"blocks.{layer}.hook_{'attn' if part == 'a' else 'mlp'}_out"
    pattern = f"blocks.{layer}.attn.hook_pattern"
    got = {}
    hooks = [(f"blocks.{layer}.{start}", lambda x, hook: x + moved)]
    hooks += [(pattern, lambda x, hook: kept[pattern])]
    hooks += [(out, lambda x, hook: got.update(out=x.clone()))]
    with torch.no_grad():
        model.run_with_hooks(task.clean, fwd_hooks=hooks)
    return got["out"] - kept[out]


@pytest.mark.parametrize("through", ["a0", "m0", "a1", "m1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_component_is_moved_and_nothing_else(shape, through):
    model, saes, place, end, task = problem(shape, "resid_pre", "resid_post")
    done = found(model, saes, end, task, method="direct", through=through)
    index, own, kept = int(done.target.split("f")[-1]), saes[1], kept_run(model, task)
    real = torch.arange(6) < task.lengths[:, None]
    f = saes[0].encode(kept["blocks.0.hook_resid_pre"]) * real[..., None]
    sizes = []
    for feature in EVERY:
        d = -f[..., feature, None] * saes[0].W_dec[feature]
        up, down = (
            own.encode(kept["blocks.1.hook_resid_post"] + made(model, task, kept, through, e * d))[
                ..., index
            ]
            for e in (1e-5, -1e-5)
        )
        slope = float(((up - down) * real).sum()) / 2e-5 / len(task)
        assert done[f"{place}.f{feature}"] == pytest.approx(slope, abs=1e-6)
        sizes.append(abs(slope))
    assert max(sizes) > 1e-3


@pytest.mark.parametrize("method", ["direct"])
@pytest.mark.parametrize("target", ["resid_post", "mlp_out", "transcoder", "z"])
def test_all_pairs_go_through_too(target, method):
    model, saes, place, end, task = problem("llama", "resid_pre", target)
    whole = sc.pair_connections(model, end, saes, task, method=method, through="a0")
    for index in (i for i in EVERY if whole.active[i]):
        alone = sc.connections(model, f"{end}.f{index}", saes, task, method=method, through="a0")
        each = [whole[f"{place}.f{i}->{end}.f{index}"] for i in EVERY]
        torch.testing.assert_close(torch.tensor(each, dtype=torch.float64), alone.values[place])


@pytest.mark.parametrize(
    ("reads", "target", "through", "options"),
    [
        (("resid_pre", 1), ("resid_mid", 1), ["a1"], {}),
        (("resid_mid", 1), ("resid_post", 1), ["m1"], {}),
        (("resid_pre", 1), ("resid_post", 1), ["a1", "m1"], {"parallel_attn_mlp": True}),
        (("resid_mid", 0), ("resid_pre", 1), ["m0"], {}),
    ],
)
def test_where_all_is_linear_the_ways_add_up_to_total(reads, target, through, options):
    model = linear(**options)
    saes = [dictionary(model, *reads), dictionary(model, *target, seed=5)]
    saes, task = [without_gates(sae) for sae in saes], random_task(model, 3, 6)
    end = f"{target[0].removeprefix('resid_')}{target[1]}"
    place = f"{reads[0].removeprefix('resid_')}{reads[1]}"
    total = found(model, saes, end, task, method="total").values[place]
    direct = found(model, saes, end, task, method="direct").values[place]
    ways = [
        found(model, saes, end, task, method="direct", through=one).values[place] for one in through
    ]
    torch.testing.assert_close(direct + sum(ways), total)
    assert all(float(way.abs().max()) > 1e-2 for way in ways)


# -- by head and token -----------------------------------------------------------------------------


def by_hand(model, task, kept, layer, source, feature, sae, index):
    """Value by head, source and destination token: each cell moves one entry of one z alone."""
    attn = model.blocks[layer].attn
    pattern = kept[f"blocks.{layer}.attn.hook_pattern"][0]
    f = source.encode(kept["blocks.0.hook_resid_pre"])[0, :, feature]
    d = -f[:, None] * source.W_dec[feature]
    n_heads, n = pattern.shape[0], len(f)
    values = torch.zeros(n_heads, n, n, dtype=torch.float64)
    stream, after = kept[f"blocks.{layer}.hook_resid_pre"], kept["blocks.1.hook_resid_post"]
    e = 1e-5

    def heads_values(x):
        got = {}
        hook = [(f"blocks.{layer}.hook_resid_pre", lambda y, hook: x)]
        hook += [(f"blocks.{layer}.attn.hook_v", lambda y, hook: got.update(v=y.clone()))]
        with torch.no_grad():
            model.run_with_hooks(task.clean, fwd_hooks=hook)
        return got["v"][0].repeat_interleave(n_heads // got["v"].shape[2], 1)

    up, down = heads_values(stream + e * d), heads_values(stream - e * d)
    for h in range(n_heads):
        for s in range(n):
            for t in range(s, n):
                ends = []
                for v in (up, down):
                    z = pattern[h, t, s] * (v[s, h] - (up[s, h] + down[s, h]) / 2)
                    x = after.clone()
                    x[0, t] += (z @ attn.W_O[h]).detach()
                    ends.append(float(sae.encode(x)[..., index].sum()))
                values[h, s, t] = (ends[0] - ends[1]) / (2 * e)
    return values


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("shape", ["gpt2", "llama", "pythia"])
def test_each_head_from_token_to_token(shape, layer):
    model, saes, place, end, _ = problem(shape, "resid_pre", "resid_post")
    one = random_task(model, 1, 6)
    whole = found(model, saes, end, one, method="direct", through=f"a{layer}")
    index, kept = int(whole.target.split("f")[-1]), kept_run(model, one)
    source = whole.top(1)[0][0]
    got = sc.head_connections(model, source, whole.target, saes, one, through=f"a{layer}")
    feature = int(source.split("f")[-1])
    assert float(got.sum()) == pytest.approx(whole[source], abs=1e-9)
    expected = by_hand(model, one, kept, layer, saes[0], feature, saes[1], index)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-6)
    assert source.startswith(place)


@pytest.mark.parametrize("target", ["z", "attn_out"])
@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2"])
def test_a_target_of_heads_is_reached_through_its_own(shape, target):
    model, saes, place, end, _ = problem(shape, "resid_pre", target)
    one = random_task(model, 1, 6)
    whole = found(model, saes, end, one, method="direct")
    for feature in EVERY:
        name = f"{place}.f{feature}"
        got = sc.head_connections(model, name, whole.target, saes, one)
        assert float(got.sum()) == pytest.approx(whole[name], abs=1e-9)
        later = torch.ones(6, 6).tril(-1).bool()  # no token hears a later one
        assert not got[:, later].any()
        for p in (0, 2):  # by source token, as with positions
            alone = sc.connections(model, whole.target, saes, one, method="direct", positions=[p])
            assert float(got[:, p].sum()) == pytest.approx(alone[name], abs=1e-9)


def test_bad_ways_are_refused_in_words():
    model, saes, place, end, task = problem("gpt2", "resid_pre", "resid_post")
    ask = lambda **more: sc.connections(model, f"{end}.f1", saes, task, **more)  # noqa: E731
    with pytest.raises(OptionError, match="goes with method='direct'"):
        ask(through="a0")
    with pytest.raises(GraphError, match="through='a2' is no layer's heads or MLP"):
        ask(method="direct", through="a2")
    late = [dictionary(model, "resid_post", 0), saes[1]]
    with pytest.raises(GraphError, match=r"nothing given writes before .* through a0"):
        sc.connections(model, f"{end}.f1", late, task, method="direct", through="a0")
    heads = lambda source, target, given=None, **more: sc.head_connections(  # noqa: E731
        model, source, target, saes, given or random_task(model, 1, 6), **more
    )
    with pytest.raises(OptionError, match="does not split what heads write"):
        heads(f"{place}.f1", f"{end}.f1")
    with pytest.raises(OptionError, match="name a layer's heads"):
        heads(f"{place}.f1", f"{end}.f1", through="m0")
    with pytest.raises(OptionError, match="3 prompts: give one"):
        heads(f"{place}.f1", f"{end}.f1", task, through="a0")
    with pytest.raises(GraphError, match="is no feature upstream"):
        heads(f"{place}.f9", f"{end}.f1", through="a0")
    with pytest.raises(GraphError, match="is no feature: name it"):
        heads(f"{place}.error", f"{end}.f1", through="a0")
    dead = [saes[0], replace(saes[1], gate=torch.zeros_like)]
    with pytest.raises(DictionaryError, match="is not active on the prompt"):
        sc.head_connections(
            model, f"{place}.f1", f"{end}.f1", dead, random_task(model, 1, 6), through="a0"
        )
