"""Models on another device than the task, and divided over several: see `pretend_devices.py`."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import sae_circuits as sc
from device_cases import CASES, Setting, difference, marked
from pretend_devices import WrongDeviceError, devices, placed, pretended
from sae_circuits.errors import DictionaryError, ModelError, WorkerError
from shapes import boot, hooked, huggingface, quiet, random_task

FIRST, SECOND = pretended(0), pretended(1)
WITHOUT_WRAPPERS = ("connections by head",)  # forward-mode derivatives take no tensor of ours
MAIN = ("eap", "relp", "eap of features", "evaluate, mean", "connections, total", "trace")


@cache
def own(kind: str) -> Setting:
    """A model on the CPU, with all that cases ask for."""
    if kind == "hooked":
        return Setting.of(hooked("llama", dtype=torch.float32))
    return Setting.of(boot(huggingface(kind), kind))


@cache
def numbers(kind: str, case: str):
    return CASES[case](own(kind))


@cache
def divided():
    """A HookedTransformer with a layer on each device, as its `n_devices` has them."""
    late = ("blocks.1", "ln_final", "unembed")
    model = placed(own("hooked").model, lambda name: SECOND if name.startswith(late) else FIRST)
    model.cfg.device, model.cfg.n_devices = str(FIRST), 2
    return model


@cache
def dispatched(shape: str):
    """A bridge to a model whose layers accelerate has put on two devices, with its hooks."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    layer, *others = {
        "gpt2": ("transformer.h.1", "transformer.ln_f"),
        "llama": ("model.layers.1", "model.norm", "lm_head"),
    }[shape]
    late = (layer, *others)
    model = placed(huggingface(shape), lambda name: SECOND if name.startswith(late) else FIRST)
    for name, module in model.named_modules():
        held = list(module.parameters(recurse=False))
        if held or name == layer:
            where = held[0].device if held else SECOND
            add_hook_to_module(module, AlignDevicesHook(where, io_same_device=False))
    add_hook_to_module(model, AlignDevicesHook(FIRST, io_same_device=True))
    return boot(model, shape)


def where(model: nn.Module) -> set[torch.device]:
    return {x.device for x in model.parameters()}


# -- the devices themselves ------------------------------------------------------------------------


def test_pretended_devices_refuse_what_cuda_refuses():
    with devices():
        here, there = torch.ones(3, device=FIRST), torch.ones(3, device=SECOND)
        assert here.device == FIRST
        with pytest.raises(WrongDeviceError, match=r"cpu.*lazy:0"):
            here + torch.ones(3)
        with pytest.raises(WrongDeviceError, match=r"lazy:0.*lazy:1"):
            torch.cat([here, there])
        with pytest.raises(WrongDeviceError, match="index"):
            torch.ones(3)[torch.tensor([0], device=FIRST)]
        with pytest.raises(TypeError, match="cpu"):
            here.numpy()


def test_pretended_devices_compute_as_the_cpu():
    a = torch.arange(6.0).view(2, 3)
    with devices():
        x = a.to(FIRST).requires_grad_()
        y = (x.to(SECOND) ** 2).sum() * torch.tensor(3.0)  # a number on the CPU goes with all
        assert y.device == SECOND
        (g,) = torch.autograd.grad(y, x)
        assert g.device == FIRST
        assert torch.equal(g.cpu(), 6 * a)
        x.detach()[torch.tensor([1])] += 1  # places on the CPU too, and in place
        assert x.tolist() == [[0, 1, 2], [4, 5, 6]]


# -- models on them --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in marked() if c.values[0] not in WITHOUT_WRAPPERS])
def test_a_model_divided_over_devices_gives_what_one_gives(case):
    want = numbers("hooked", case)
    with devices():
        assert where(divided()) == {FIRST, SECOND}
        got = CASES[case](own("hooked").moved(divided(), FIRST))
    assert difference(got, want) < 1e-5


@pytest.mark.parametrize("case", marked(MAIN))
@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_a_model_that_accelerate_divided_gives_what_one_gives(shape, case):
    want = numbers(shape, case)
    with devices():
        assert where(dispatched(shape).original_model) == {FIRST, SECOND}
        got = CASES[case](own(shape).moved(dispatched(shape), FIRST))
    assert difference(got, want) < 1e-5


@pytest.mark.parametrize("case", ["eap of features", "evaluate, resample", "spans"])
def test_a_task_may_be_on_the_models_device_or_elsewhere(case):
    want = numbers("hooked", case)
    with devices():
        model = placed(own("hooked").model, lambda _: FIRST)
        model.cfg.device = str(FIRST)
        for task in ("cpu", FIRST):
            assert difference(CASES[case](own("hooked").moved(model, FIRST, task)), want) < 1e-5


def test_a_dictionary_on_another_device_than_the_model_is_refused():
    with devices():
        model = placed(own("hooked").model, lambda _: FIRST)
        model.cfg.device = str(FIRST)
        graph = sc.TensorGraph.from_model(model, saes=own("hooked").saes)
        with pytest.raises(DictionaryError, match="device='lazy:0'"):
            sc.attribute(model, graph, own("hooked").task)


# -- accelerate on one machine ---------------------------------------------------------------------


def test_a_model_that_accelerate_put_on_the_processor_works(tmp_path):
    with quiet():
        huggingface("llama").save_pretrained(tmp_path)
    model = boot(None, str(tmp_path), device_map={"": "cpu"})
    task, graph = random_task(model), sc.TensorGraph.from_model(model)
    found = sc.attribute(model, graph, task, method="eap").values
    plain = boot(huggingface("llama"), "llama")
    assert torch.equal(found, sc.attribute(plain, graph, task, method="eap").values)


@pytest.mark.parametrize("to", ["cpu", "disk"])
def test_offloaded_weights_are_refused_with_the_remedy(to, tmp_path):
    import accelerate

    model, device = huggingface("llama"), torch.device("cpu")
    if to == "cpu":
        accelerate.cpu_offload(model, device)
    else:
        accelerate.disk_offload(model, str(tmp_path), device)
    model = boot(model, "llama")
    graph = sc.TensorGraph.from_model(model)
    with pytest.raises(ModelError, match=r"22 of the 22 weights .* offloaded.*device_map"):
        sc.attribute(model, graph, random_task(model))


def test_a_divided_model_is_not_sent_to_workers():
    with devices():
        model = divided()
        task, graph = random_task(own("hooked").model), sc.TensorGraph.from_model(model)
        with sc.workers(["cpu"]) as one, pytest.raises(WorkerError, match="divided over lazy:0, l"):
            sc.attribute(model, graph, task, method="eap", workers=one)
