"""CUDA against the CPU, where there is a GPU; several of them, where there are two.

`test_placement.py` asks the same of devices that are pretended, and runs everywhere.
"""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch

import sae_circuits as sc
from device_cases import CASES, SEARCHES, Setting, difference, marked
from sae_circuits.peak import highest_bytes
from shapes import boot, hooked, huggingface
from test_dtypes import HERE, bound, exact

pytestmark = pytest.mark.gpu
BOUND = 1e-4  # of float32: sums are taken in another order
COMPARED = [name for name in CASES if name not in (*SEARCHES, "constants")]
MAIN = ("eap", "eap of features", "evaluate, mean", "connections, total", "store", "trace")
two_gpus = pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason="fewer than two CUDA devices on this machine"
)


@cache
def own(shape: str) -> Setting:
    return Setting.of(hooked(shape, dtype=torch.float32))


@cache
def numbers(shape: str, case: str):
    return CASES[case](own(shape))


@cache
def on_cuda(shape: str) -> Setting:
    model = copy.deepcopy(own(shape).model)
    return own(shape).moved(model.to("cuda"), "cuda")


@pytest.mark.parametrize("case", marked(COMPARED))
@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_cuda_gives_what_the_cpu_gives(shape, case):
    assert difference(CASES[case](on_cuda(shape)), numbers(shape, case)) < BOUND


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", marked(HERE))
def test_dtypes_agree_with_float64_on_cuda_within_the_stated_bounds(case, dtype):
    of = Setting.demo(getattr(torch, dtype))
    got = CASES[case](of.moved(of.model.to("cuda"), "cuda"))
    assert difference(got, exact(case)) < max(BOUND, bound(case, dtype))


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_a_task_may_be_on_either_device(where):
    of = on_cuda("gpt2")
    found = CASES["eap"](of.moved(of.model, "cuda", where))
    assert difference(found, numbers("gpt2", "eap")) < BOUND


def test_peak_memory_is_that_of_the_device_asked_for():
    size = 64 << 20
    peak, _ = highest_bytes(lambda: torch.zeros(size, dtype=torch.uint8, device="cuda"), "cuda")
    assert size <= peak < 1.2 * size
    peak, _ = highest_bytes(lambda: torch.ones(size, dtype=torch.uint8), "cpu")
    assert 0.9 * size < peak < 1.5 * size


@two_gpus
@pytest.mark.parametrize("case", MAIN)
def test_a_model_divided_by_transformer_lens_gives_what_one_gives(case):
    model = copy.deepcopy(own("llama").model).to("cuda:0")
    for module in (model.blocks[1], model.ln_final, model.unembed):
        module.to("cuda:1")
    model.cfg.device, model.cfg.n_devices = "cuda", 2
    found = CASES[case](own("llama").moved(model, "cuda:0"))
    assert difference(found, numbers("llama", case)) < BOUND


@two_gpus
@pytest.mark.parametrize("case", MAIN)
def test_a_model_divided_by_accelerate_gives_what_one_gives(case):
    from accelerate import dispatch_model

    parts = {"model.embed_tokens": 0, "model.layers.0": 0, "model.rotary_emb": 0}
    parts |= {"model.layers.1": 1, "model.norm": 1, "lm_head": 1}
    whole = Setting.of(boot(huggingface("llama"), "llama"))
    model = boot(dispatch_model(huggingface("llama"), parts), "llama")
    assert difference(CASES[case](whole.moved(model, "cuda:0")), CASES[case](whole)) < BOUND


@two_gpus
def test_a_dictionary_on_another_gpu_is_refused():
    of = on_cuda("gpt2")
    graph = sc.TensorGraph.from_model(of.model, saes=[d.to("cuda:1") for d in of.saes])
    with pytest.raises(sc.errors.DictionaryError, match="device='cuda:0'"):
        sc.attribute(of.model, graph, of.task)
