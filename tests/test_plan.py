"""`plan` against what is counted and measured on the real call."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import sae_circuits as sc
from sae_circuits.ablation.batches import shape_of
from sae_circuits.cache import check_model
from sae_circuits.costs.operations import circuits_work
from sae_circuits.errors import ContextError, OptionError, UnknownName
from sae_circuits.models.adapter import Adapter
from sae_circuits.planning.shapes import SHAPES, shape_named
from small_dictionaries import dictionary
from test_memory import GATED, MIB, made, measured, prompts

OWN = sc.Method("own", score_batch=lambda problem: problem.zeros())
RATES = {"flops_per_second": 1e9, "bytes_per_second": 1e9}


class Counter(TorchDispatchMode):
    """Counts as `FlopCounterMode` does, which cannot follow gradients at single places."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def checked(**config):
    """A model that has been looked at, as is done once for each on a few tokens."""
    model = made(**config)
    check_model(Adapter.of(model), prompts(model, 1, 8).clean)
    return model


def counted(call) -> int:
    """Floating-point operations of a call, by torch's own table."""
    with Counter() as counter:
        call()
    return counter.total


@pytest.mark.parametrize("config", [{}, GATED], ids=["plain", "gated"])
@pytest.mark.parametrize("pos", [16, 96])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("eap", {}),
        ("eap-ig", {"steps": 3}),
        ("eap-ig", {"steps": 10}),
        ("clean-corrupted", {}),
        ("relp", {}),
        ("gim", {}),
        ("mask-ig", {"steps": 2}),
        ("information-flow", {}),
        ("atp-star", {}),
        ("atp-star", {"grad_drop": True}),
        ("edge-pruning", {"steps": 3}),
        ("ugs", {"steps": 2, "samples": 3}),
    ],
)
def test_operations_of_scores_are_those_that_torch_counts(config, pos, method, options):
    model = checked(**config)
    task, graph = prompts(model, 3, pos), sc.TensorGraph.from_model(model)
    flops = counted(lambda: sc.attribute(model, graph, task, method=method, **options))
    found = sc.plan(model, examples=3, tokens=pos, method=method, **RATES, **options)
    assert found.flops == pytest.approx(flops, rel=0.15)


@pytest.mark.parametrize("config", [{}, GATED], ids=["plain", "gated"])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_operations_of_circuits_are_those_that_torch_counts(config, share):
    model = made(**config)
    task, graph = prompts(model, 2, 32), sc.TensorGraph.from_model(model)
    drawn = torch.rand(graph.n_edges, generator=torch.Generator().manual_seed(0))
    circuit = sc.Circuit.full(graph).with_mask(drawn < share)
    flops = counted(lambda: sc.ablate(model, circuit, task))
    found = circuits_work(shape_of(Adapter.of(model)), graph, 32, (share,), each=1)
    assert 2 * found.flops == pytest.approx(flops, rel=0.15)


@pytest.mark.parametrize("method", ["eap", "eap-ig"])
def test_operations_of_nodes(method):
    model = made()
    task, graph = prompts(model, 3, 64), sc.TensorGraph.from_model(model)
    flops = counted(lambda: sc.attribute_nodes(model, graph, task, method=method))
    found = sc.plan(model, examples=3, tokens=64, method=method, of="nodes", **RATES)
    assert found.flops == pytest.approx(flops, rel=0.15)


def test_operations_of_features():
    model = made()
    saes = [dictionary(model, "resid_post", i, n=300) for i in range(2)]
    task, graph = prompts(model, 2, 64), sc.TensorGraph.from_model(model, saes=saes)
    flops = counted(lambda: sc.attribute(model, graph, task, method="eap"))
    features = {"resid_post.0": 300, "resid_post.1": 300}
    found = sc.plan(model, examples=2, tokens=64, method="eap", features=features, **RATES)
    assert (found.nodes, found.edges) == (graph.n_src, graph.n_edges)
    assert found.flops == pytest.approx(flops, rel=0.25)


def test_exact_patching_runs_a_part_of_the_model_for_every_edge():
    model = made(n_layers=2)
    task, graph = prompts(model, 1, 16), sc.TensorGraph.from_model(model)
    flops = counted(lambda: sc.attribute(model, graph, task, method="exact"))
    found = sc.plan(model, examples=1, tokens=16, method="exact", **RATES)
    assert found.flops == pytest.approx(flops, rel=0.15)


@pytest.mark.parametrize("config", [{}, GATED], ids=["plain", "gated"])
def test_operations_of_acdc_are_a_bound_which_it_comes_near_to_where_all_edges_stay(config):
    model = checked(n_layers=2, **config)
    task, graph = prompts(model, 1, 16), sc.TensorGraph.from_model(model)
    found = sc.plan(model, examples=1, tokens=16, method="acdc", threshold=1e-9, **RATES)
    assert found.stages[0].at_most
    for threshold, least in ((1e-9, 0.7), (1e9, 0.0)):
        flops = counted(
            lambda how=threshold: sc.attribute(model, graph, task, method="acdc", threshold=how)
        )
        assert least * found.flops <= flops <= found.flops


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "pos", "how"),
    [
        ({}, 128, {"method": "eap"}),
        ({}, 512, {"method": "eap"}),
        ({}, 128, {"method": "eap-ig", "steps": 3}),
        (GATED, 128, {"method": "eap-ig", "steps": 3}),
        (GATED, 512, {"method": "clean-corrupted"}),
    ],
)
def test_the_peak_is_never_below_what_is_measured_and_not_twice_as_high(config, pos, how):
    found = sc.plan(made(**config), examples=64, tokens=pos, memory="400MiB", **RATES, **how)
    peak = measured(config, "attribute", 64, pos, "400MiB", 0, how)
    assert peak <= found.peak <= 2 * peak, f"{found.peak / MIB:.0f}, not {peak / MIB:.0f} MiB"


def test_the_batch_is_the_one_that_the_call_has(monkeypatch):
    import sae_circuits.attribution.run as module

    model, seen = made(), []
    task, graph = prompts(model, 40, 64), sc.TensorGraph.from_model(model)
    real = module.batching
    monkeypatch.setattr(module, "batching", lambda *a, **k: seen.append(real(*a, **k)) or seen[-1])
    sc.attribute(model, graph, task, method="eap", memory="200MiB")
    found = sc.plan(model, examples=40, tokens=64, method="eap", memory="200MiB", **RATES)
    (stage,) = found.stages
    assert (stage.batch_size, stage.chunk) == (seen[0].size, seen[0].chunk)
    assert 1 < stage.batch_size < 40


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_named_shapes_have_the_weights_that_they_are_known_for(name):
    millions = {
        "gpt2": 124, "gpt2-medium": 355, "gpt2-large": 774, "gpt2-xl": 1558,
        "gemma-2-2b": 2614, "llama-2-7b": 6738, "llama-3-8b": 8030,
    }  # fmt: skip
    shape = shape_named(name, 1)
    arch = shape.architecture
    tied = arch.d_vocab * arch.d_model if name.startswith(("gpt2", "gemma")) else 0
    assert (shape.weights - tied) / 1e6 == pytest.approx(millions[name], rel=0.02)


def test_a_plan_without_weights_is_the_one_of_the_model():
    model = made()
    arch = sc.Architecture.of(model)
    one = sc.plan(arch, tokens=32, method="eap", **RATES)
    other = sc.plan(model, tokens=32, method="eap", **RATES)
    assert (one.flops, one.edges, one.weights) == (other.flops, other.edges, other.weights)


def test_time_follows_from_the_rates_and_a_table_has_a_row_for_each_stage():
    found = sc.plan("gpt2", examples=8, tokens=16, method="eap", sizes=3, **RATES)
    assert [stage.name for stage in found.stages] == ["eap", "curve"]
    for stage in found.stages:
        assert stage.seconds == pytest.approx((stage.flops + stage.moved) / 1e9)
    table = found.to_pandas()
    assert list(table.name) == ["eap", "curve"]
    assert found.seconds == pytest.approx(float(table.seconds.sum()))
    assert found.flops == sum(table.flops)
    assert json.loads(json.dumps(found.to_dict()))["stages"][1]["name"] == "curve"
    assert "does not fit" not in repr(found)


def test_what_does_not_fit_is_said():
    found = sc.plan("llama-3-8b", tokens=4096, memory="4GiB", **RATES)
    assert not found.fits
    assert found.stages[0].batch_size == 1
    assert found.peak > 4 << 30
    assert "does not fit 4 GiB" in repr(found)


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ({"model": "gpt3"}, UnknownName, "unknown shape 'gpt3': did you mean 'gpt2'"),
        ({"dtype": "int8"}, UnknownName, "unknown dtype 'int8'"),
        ({"method": "eap-gi"}, UnknownName, "eap-ig"),
        ({"method": OWN}, OptionError, "'own' cannot be planned: it does not say"),
        ({"method": "ugs", "features": {"mlp_out": 8}}, OptionError, "'ugs' .* with features"),
        ({"method": "acdc", "features": {"mlp_out": 8}}, OptionError, "'acdc' .* with features"),
        ({"method": "eap", "steps": 3}, UnknownName, "option of method 'eap'"),
        ({"method": None}, OptionError, "nothing to plan"),
        ({"examples": 0}, OptionError, "examples=0"),
        ({"tokens": 2000}, ContextError, "context of 1,024"),
        ({"features": {"mlp": 3}}, OptionError, "'mlp_out.3'"),
        ({"features": {"mlp_out.12": 3}}, OptionError, "layers are 0 to 11"),
        ({"flops_per_second": 0}, OptionError, "above 0"),
        ({"memory": "much"}, OptionError, "is no size"),
    ],
)
def test_bad_input_is_refused(how, error, match):
    with pytest.raises(error, match=match):
        sc.plan(**{"model": "gpt2", **RATES, **how})
