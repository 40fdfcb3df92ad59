"""Connections of features, against edited runs and central differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sae_circuits as sc
from sae_circuits.connectome.asked import METHODS
from sae_circuits.connectome.look import look
from sae_circuits.errors import DictionaryError, GraphError, OptionError, UnknownName
from sae_circuits.graph import TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from shapes import HOOKED, TWINS, random_task
from small_connections import CASES, EVERY, edited, found, problem, straight
from small_dictionaries import N_FEATURES, dictionary


@pytest.mark.parametrize(("shape", "source", "target"), CASES)
def test_patching_is_an_edited_run(shape, source, target):
    model, saes, place, end, task = problem(shape, source, target)
    for reference, change in (("zero", ("set", 0.0)), (1.5, ("set", 1.5))):
        done = found(model, saes, end, task, method="patching", reference=reference, batch_size=4)
        for feature in EVERY:
            name = f"{place}.f{feature}"
            real = edited(model, saes, task, {name: change}, done.target)
            assert done[name] == pytest.approx(real, abs=1e-10)


@pytest.mark.parametrize(("shape", "source", "target"), CASES)
def test_total_is_the_slope_of_an_edited_run(shape, source, target):
    model, saes, place, end, task = problem(shape, source, target)
    done = found(model, saes, end, task, method="total")
    graph = TensorGraph.from_model(model, saes=saes)
    names = [f"{place}.f{feature}" for feature in EVERY]
    clean = sc.intervene(model, graph, task, {}, watch=names).clean_activations
    for name in names:
        slope = [
            edited(model, saes, task, {name: ("add", -e * clean[name])}, done.target)
            for e in (1e-5, -1e-5)
        ]
        assert done[name] == pytest.approx((slope[0] - slope[1]) / 2e-5, abs=1e-6)


@pytest.mark.parametrize(("shape", "source", "target"), CASES)
def test_features_and_error_add_up_to_the_slope_along_the_whole(shape, source, target):
    model, saes, place, end, task = problem(shape, source, target)
    done = found(model, saes, end, task, method="total", reference="corrupt")
    adapter = Adapter.of(model)
    placed = [
        Placed.all_of(adapter, TensorGraph.from_model(model, saes=[sae], through=True))[0]
        for sae in saes
    ]
    index = int(done.target.split("f")[-1])
    real = (torch.arange(6) < task.lengths[:, None])[..., None]
    clean, corrupt = (look(adapter, placed, t).at[place] for t in (task, task.swapped()))
    change = (corrupt - clean).flatten(2) * real

    def activation(e):
        seen = look(adapter, placed, task, moved={place: e * change})
        f = saes[1].encode(seen.encoded[end])[..., index]
        return float((f * real[..., 0]).sum()) / len(task)

    slope = (activation(1e-5) - activation(-1e-5)) / 2e-5
    assert float(done.values[place].sum()) + done.errors[place] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("shape", HOOKED)
def test_direct_is_a_forward_pass_with_all_else_frozen(shape):
    """The stream that the target reads is moved by what one feature writes, and nothing else is."""
    model, saes, place, end, task = problem(shape, "resid_pre", "resid_post")
    done = found(model, saes, end, task, method="direct")
    index, own = int(done.target.split("f")[-1]), saes[1]
    last = {}
    hooks = [("blocks.0.hook_resid_pre", lambda x, hook: last.update(first=x))]
    hooks += [("blocks.1.hook_resid_post", lambda x, hook: last.update(last=x))]
    with torch.no_grad():
        model.run_with_hooks(task.clean, fwd_hooks=hooks)
    real = torch.arange(6) < task.lengths[:, None]
    f = saes[0].encode(last["first"]) * real[..., None]
    for feature in EVERY:
        d = -f[..., feature, None] * saes[0].W_dec[feature]

        def activation(e, d=d):
            return float((own.encode(last["last"] + e * d)[..., index] * real).sum()) / len(task)

        slope = (activation(1e-5) - activation(-1e-5)) / 2e-5
        assert done[f"{place}.f{feature}"] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("target", ["z", "attn_out", "mlp_out", "transcoder"])
@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_direct_through_a_component_holds_its_patterns(shape, target):
    """The stream before the heads, or the MLP, is moved alone; patterns are those of the run."""
    model, saes, place, end, task = problem(shape, "resid_pre", target)
    done = found(model, saes, end, task, method="direct")
    index, own = int(done.target.split("f")[-1]), saes[1]
    start = "hook_resid_pre" if end == "a1" else "hook_resid_mid"
    module = {"z": "attn.hook_z", "attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out"}
    real = torch.arange(6) < task.lengths[:, None]
    kept = {}

    def keep(name):
        return lambda x, hook: kept.update({name: x.clone()})

    def encoded(moved):
        hooks = [(f"blocks.1.{start}", lambda x, hook: x + moved)]
        hooks += [("blocks.1.attn.hook_pattern", lambda x, hook: kept["pattern"])]
        if target in module:
            hooks += [(f"blocks.1.{module[target]}", keep("out"))]
            model.run_with_hooks(task.clean, fwd_hooks=hooks)
            return kept["out"].flatten(2)
        return model.blocks[1].ln2(kept["mid"] + moved)

    with torch.no_grad():
        first = [("blocks.0.hook_resid_pre", keep("first"))]
        first += [("blocks.1.attn.hook_pattern", keep("pattern"))]
        first += [("blocks.1.hook_resid_mid", keep("mid"))]
        model.run_with_hooks(task.clean, fwd_hooks=first)
        f = saes[0].encode(kept["first"]) * real[..., None]
        for feature in EVERY:
            d = -f[..., feature, None] * saes[0].W_dec[feature]
            up, down = (
                float((own.encode(encoded(e * d))[..., index] * real).sum()) / len(task)
                for e in (1e-5, -1e-5)
            )
            assert done[f"{place}.f{feature}"] == pytest.approx((up - down) / 2e-5, abs=1e-6)


@pytest.mark.parametrize("reference", ["zero", "mean", "corrupt", 2.0])
def test_on_a_linear_path_the_three_ways_agree(reference):
    model, saes, task = straight()
    with torch.no_grad():
        for block in model.blocks:  # the stream alone is left
            block.attn.W_O.zero_()
            block.mlp.W_out.zero_()
    ways = [
        found(model, saes, "post1", task, method=method, reference=reference, positions=[0, 2])
        for method in METHODS
    ]
    assert float(ways[0].values["pre0"].abs().max()) > 0.1
    for other in ways[1:]:
        torch.testing.assert_close(other.values["pre0"], ways[0].values["pre0"])


def test_of_two_paths_total_is_both_and_direct_is_one():
    model, saes, task = straight()
    both = found(model, saes, "post1", task, method="total")
    direct = found(model, saes, "post1", task, method="direct")
    real = found(model, saes, "post1", task, method="patching")
    torch.testing.assert_close(both.values["pre0"], real.values["pre0"])
    keep = {}
    with torch.no_grad():
        for name, block in enumerate(model.blocks):
            keep[name] = block.attn.W_O.clone(), block.mlp.W_out.clone()
            block.attn.W_O.zero_()
            block.mlp.W_out.zero_()
    alone = found(model, saes, "post1", task, method="patching")
    torch.testing.assert_close(direct.values["pre0"], alone.values["pre0"])
    assert float((both.values["pre0"] - direct.values["pre0"]).abs().max()) > 1e-2


@pytest.mark.parametrize("method", METHODS)
def test_swapped_prompts_change_the_signs_on_a_linear_model(method):
    model, saes, task = straight()
    options = {"method": method, "reference": "corrupt"}
    here, there = (found(model, saes, "post1", t, **options) for t in (task, task.swapped()))
    torch.testing.assert_close(here.values["pre0"], -there.values["pre0"])


def test_more_steps_come_nearer_to_what_all_features_do_together():
    model, saes, place, end, task = problem("gpt2", "mlp_out", "resid_mid")
    names = {f"{place}.f{feature}": ("set", 0.0) for feature in EVERY}
    once = found(model, saes, end, task, method="total")
    real = edited(model, saes, task, names, once.target)
    far = [
        abs(
            float(sc.connections(model, once.target, saes, task, steps=n).values[place].sum())
            - real
        )
        for n in (1, 400)
    ]
    assert far[1] < 5e-3 < far[0]


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_padding_change_nothing(method):
    model, saes, place, end, task = problem("llama")
    whole = found(model, saes, end, task, method=method)
    for size in (1, 2, 7):
        own = sc.connections(model, whole.target, saes, task, method=method, batch_size=size)
        torch.testing.assert_close(own.values[place], whole.values[place], rtol=0, atol=1e-12)
    each = [
        sc.connections(model, whole.target, saes, row[:n], method=method).values[place]
        for row, n in zip(task.clean, task.lengths.tolist(), strict=True)
    ]
    torch.testing.assert_close(sum(each) / 3, whole.values[place], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_both_kinds_of_models_agree(shape):
    ways = []
    for model in TWINS[shape]():
        saes = [dictionary(model, "mlp_out", 0), dictionary(model, "resid_post", 1, seed=5)]
        task = random_task(model, 2, 5)
        ways.append([found(model, saes, "post1", task, method=m) for m in METHODS])
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one.values["m0"], other.values["m0"], rtol=1e-3, atol=1e-4)


def test_positions_say_where_features_are_set():
    model, saes, place, end, task = problem("gpt2", lengths=(6, 6, 6))
    whole = found(model, saes, end, task)
    parts = [
        sc.connections(model, whole.target, saes, task, positions=[p]).values[place]
        for p in range(6)
    ]
    torch.testing.assert_close(sum(parts), whole.values[place])
    one = sc.connections(model, whole.target, saes, task, positions=[2], method="patching")
    real = edited(model, saes, task, {f"{place}.f1@2": ("set", 0.0)}, whole.target)
    assert one[f"{place}.f1"] == pytest.approx(real, abs=1e-10)


def test_some_features_are_patched_alone():
    model, saes, place, end, task = problem("gpt2")
    whole = found(model, saes, end, task, method="patching")
    names = [f"{place}.f2", f"{place}.f5"]
    few = sc.connections(model, whole.target, saes, task, method="patching", features=names)
    assert [few[name] for name in names] == pytest.approx([whole[name] for name in names])
    assert few.values[place].isnan().sum() == N_FEATURES - 2
    none = sc.connections(model, whole.target, saes, task, method="patching", features=[])
    assert none.values[place].isnan().all()


def test_they_are_scores_of_a_graph_and_rows_of_a_table():
    model, saes, place, end, task = problem("gpt2")
    done = found(model, saes, end, task)
    pairs = done.scores(place)
    rows = done.to_pandas()
    assert len(pairs) == len(rows) == int((done.values[place] != 0).sum())
    for name, value in done.top(3):
        assert pairs[f"{name}->{done.target}"] == value == done[name]
    assert list(rows["value"].abs()) == sorted(rows["value"].abs(), reverse=True)


def test_bad_input_is_refused_in_words():
    model, saes, _, _, task = problem("gpt2")
    ask = lambda target, **more: sc.connections(model, target, saes, task, **more)  # noqa: E731
    with pytest.raises(GraphError, match=r"has features 0 to 6"):
        ask("post1.f7")
    with pytest.raises(GraphError, match=r"'post0\.f1' is no feature of the dictionaries given"):
        ask("post0.f1")
    with pytest.raises(GraphError, match=r"nothing given writes before 'm0\.f1'"):
        ask("m0.f1")
    with pytest.raises(UnknownName, match="patch"):
        ask("post1.f1", method="patch")
    with pytest.raises(UnknownName, match="median"):
        ask("post1.f1", reference="median")
    with pytest.raises(OptionError, match="finite"):
        ask("post1.f1", reference=float("nan"))
    with pytest.raises(OptionError, match="position 9 lies outside"):
        ask("post1.f1", positions=[9])
    with pytest.raises(OptionError, match="method='patching'"):
        ask("post1.f1", features=["m0.f1"])
    with pytest.raises(GraphError, match=r"'m0.f9' is no feature upstream"):
        ask("post1.f1", method="patching", features=["m0.f9"])
    with pytest.raises(OptionError, match="steps=0"):
        ask("post1.f1", steps=0)
    with pytest.raises(OptionError, match="corrupt prompts"):
        sc.connections(model, "post1.f1", saes, task.clean, reference="corrupt")
    other = dictionary(HOOKED["gpt2"](d_model=24), "mlp_out", 0)
    with pytest.raises(DictionaryError):
        sc.connections(model, "post1.f1", [other, saes[1]], task)


def test_a_target_that_is_never_active_is_said():
    model, saes, _, end, task = problem("gpt2")
    dead = replace(saes[1], gate=torch.zeros_like)
    with pytest.raises(DictionaryError, match="active on none of the 3 prompts"):
        sc.connections(model, f"{end}.f1", [saes[0], dead], task)
