"""The adapter's view of a model against the model itself, on every shape of both kinds."""

from __future__ import annotations

import pytest
import torch

from sae_circuits.ablation import clean_logits
from sae_circuits.attribution import attribute
from sae_circuits.cache import check_model, run
from sae_circuits.errors import UnsupportedModel
from sae_circuits.graph import TensorGraph
from sae_circuits.models import Adapter
from shapes import BRIDGED, HOOKED, REFUSED, hooked, random_task

MODELS = {
    **{f"hooked-{shape}": make for shape, make in HOOKED.items()},
    **{f"bridge-{shape}": make for shape, make in BRIDGED.items()},
}


def tolerance(model):
    loose = 1e-10 if Adapter.of(model).dtype == torch.float64 else 2e-5
    return {"rtol": loose, "atol": loose}


@pytest.mark.parametrize("name", MODELS)
def test_logits_at_the_answers_are_the_models_own(name):
    model = MODELS[name]()
    task = random_task(model, n=3, pos=6, lengths=[6, 4, 5])
    with torch.no_grad():
        own = model(task.clean)[torch.arange(3), task.position]
    torch.testing.assert_close(clean_logits(model, task, batch_size=2), own, **tolerance(model))


@pytest.mark.parametrize("name", MODELS)
def test_writers_and_constants_add_up_to_the_stream(name):
    model = MODELS[name]()
    adapter, task = Adapter.of(model), random_task(model, n=2)
    made = run(adapter, task.clean, task.position, grad=True)
    stream = made.writes["input"].clone()
    for layer in range(adapter.architecture.n_layers):
        torch.testing.assert_close(made.reads.attn_stream[layer], stream, **tolerance(model))
        heads = torch.einsum("bphk,hkd->bpd", made.writes[f"a{layer}"], adapter.W_write(layer))
        constant = adapter.constant(layer)
        stream = stream + heads + (0 if constant is None else constant)
        if adapter.architecture.has_mlps:
            stream = stream + made.writes[f"m{layer}"]
    torch.testing.assert_close(made.reads.final.detach(), stream, **tolerance(model))


@pytest.mark.parametrize("name", MODELS)
def test_norms_are_those_of_the_model(name):
    model = MODELS[name]()
    adapter = Adapter.of(model)
    for layer in range(adapter.architecture.n_layers):
        norm, module = adapter.attn_norm(layer), getattr(adapter.block(layer), "ln1", None)
        x = torch.randn(2, 3, adapter.architecture.d_model, dtype=adapter.dtype) + 0.5
        if norm is None:
            assert isinstance(module, torch.nn.Identity | None)
            continue
        expected = module(x).detach()
        torch.testing.assert_close(norm(x), expected, **tolerance(model))
        normed, scale = norm.normalise(x)
        bias = 0 if norm.bias is None else norm.bias
        torch.testing.assert_close(norm.gain(normed) + bias, expected, **tolerance(model))
        torch.testing.assert_close(normed * scale, norm.centre(x), **tolerance(model))


@pytest.mark.parametrize("name", REFUSED)
def test_a_stream_that_is_no_sum_of_heads_and_mlps_is_refused(name):
    with pytest.raises(UnsupportedModel, match=r"normalises after|bidirectional|encoder-decoder"):
        TensorGraph.from_model(REFUSED[name]())


def test_a_model_whose_parts_do_not_add_up_is_refused():
    model = hooked("gpt2")
    task, graph = random_task(model), TensorGraph.from_model(model)
    handle = model.blocks[0].hook_resid_post.register_forward_hook(lambda _m, _i, out: 2 * out)
    with pytest.raises(UnsupportedModel, match="do not add up to its own forward pass"):
        attribute(model, graph, task)
    handle.remove()
    check_model(Adapter.of(model), task.clean)


def test_a_bias_before_a_post_norm_is_refused():
    model = hooked("gemma2")
    model.blocks[1].attn.b_O.data.fill_(0.1)
    with pytest.raises(UnsupportedModel, match="layer 1 normalises its attention's output"):
        Adapter.of(model)


@pytest.mark.parametrize("kind", [HOOKED, BRIDGED], ids=["hooked", "bridge"])
def test_bfloat16_scores_are_near_those_of_float32(kind):
    scores = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = kind["gpt2"](dtype=dtype)
        graph, task = TensorGraph.from_model(model), random_task(model, n=6)
        scores[dtype] = attribute(model, graph, task, method="eap").values
        assert scores[dtype].dtype == torch.float32
    both = torch.stack(list(scores.values()))
    assert torch.corrcoef(both)[0, 1] > 0.99
