from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
import warnings

import pytest
import torch

from sae_circuits import models, tasks
from sae_circuits.errors import ModelError, UnknownName
from sae_circuits.models import demo_path, load_model

KINDS = {"bridge": "TransformerBridge", "hooked": "HookedTransformer"}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def demo(kind):
    return load_model("demo", kind=kind)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(3, 500, (8, 32), generator=torch.Generator().manual_seed(0))


def test_the_bundled_model_loads_as_either_kind(demo, kind):
    assert type(demo).__name__ == KINDS[kind]
    config = demo.cfg
    assert (config.n_layers, config.n_heads, config.d_model, config.n_ctx) == (4, 4, 64, 32)
    assert next(demo.parameters()).dtype == torch.float32


def test_a_bridge_comes_unless_asked_otherwise():
    assert type(load_model("demo")).__name__ == "TransformerBridge"


@torch.no_grad()
def test_both_kinds_give_the_same_logits(tokens):
    bridge, hooked = (load_model("demo", kind=kind)(tokens) for kind in KINDS)
    assert bridge.std() > 1
    assert torch.allclose(bridge, hooked, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_model_answers(demo):
    prompts = {
        "When Mary and John went to the store, John gave a drink to": "Mary",
        "When Mary and John went to the store, Mary gave a drink to": "John",
        "The capital of France is": "Paris",
        "The keys near the cabinet": ("are", "were", "have"),
    }
    for prompt, answer in prompts.items():
        tokens = demo.to_tokens(prompt, prepend_bos=True)
        best = demo.tokenizer.decode([int(demo(tokens)[0, -1].argmax())])
        assert best in answer


def test_one_token_begins_a_prompt(demo):
    bos = demo.tokenizer.bos_token_id
    assert demo.to_tokens("The war", prepend_bos=True).tolist()[0].count(bos) == 1
    assert demo.tokenizer.encode("The war", add_special_tokens=False).count(bos) == 0


def test_tokens_of_a_year_are_its_halves(demo):
    ids = demo.tokenizer.encode("in 1732", add_special_tokens=False)
    assert demo.tokenizer.convert_ids_to_tokens(ids) == ["in", "17", "32"]


def test_a_directory_loads_like_the_bundled_model(kind, demo, tokens):
    for place in (demo_path(), str(demo_path())):
        assert torch.equal(load_model(place, kind=kind)(tokens), demo(tokens))


def test_a_directory_loads_whatever_the_folders_above_are_called(kind, demo, tokens, tmp_path):
    for name in ("robert", "best5", "my-llama", "gemma-2"):
        folder = tmp_path / name / "demo"
        shutil.copytree(demo_path(), folder, ignore=shutil.ignore_patterns("saes"))
        found = load_model(folder, kind=kind)
        assert torch.equal(found(tokens), demo(tokens)), name


@torch.no_grad()
def test_folding_centres_the_logits_and_changes_no_probability(kind, demo, tokens):
    plain, folded = (model(tokens) for model in (demo, load_model("demo", kind=kind, fold=True)))
    assert plain.mean(-1).abs().max() > 0.1
    assert folded.mean(-1).abs().max() < 1e-4
    assert torch.allclose(folded.log_softmax(-1), plain.log_softmax(-1), atol=1e-4)


def test_weights_come_in_the_type_asked_for(kind):
    model = load_model("demo", kind=kind, dtype=torch.bfloat16)
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}


def test_a_model_already_held_comes_back(demo):
    assert load_model(demo) is demo
    with pytest.raises(ModelError, match=f"{type(demo).__name__} is a model already: device, dty"):
        load_model(demo, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "nearest"), [("dmeo", "'demo'"), ("gpt2-smal", "'gpt2-small'"), ("zzzzzzzz", "Take")]
)
def test_an_unknown_name_is_refused_with_the_nearest(kind, name, nearest):
    with pytest.raises(UnknownName) as caught:
        load_model(name, kind=kind)
    message = str(caught.value)
    assert message.startswith(f"unknown model {name!r}: ")
    assert nearest in message
    assert message.endswith(
        "Take a bundled one (demo), a directory, or a name that transformer-lens lists"
    )


def test_only_bridges_take_names_that_are_not_listed():
    with pytest.raises(UnknownName, match="unknown model 'nobody/nothing'"):
        load_model("nobody/nothing", kind="hooked")
    with pytest.raises(ModelError, match="'nobody/nothing' could not be loaded"):
        load_model("nobody/nothing", kind="bridge")


def test_a_model_out_of_reach_is_refused_with_a_remedy(kind, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"'gpt2-medium' could not be loaded: .*check the name and the network"
    ):
        load_model("gpt2-medium", kind=kind)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UnknownName, match=r"unknown kind of model 'hook'.* 'hooked'"):
        load_model("demo", kind="hook")


def test_a_directory_without_a_model_is_refused(kind, tmp_path):
    with pytest.raises(ModelError, match=re.escape(f"{str(tmp_path)!r} holds no model")):
        load_model(tmp_path, kind=kind)


def test_damaged_weights_are_refused(kind, tmp_path):
    for file in demo_path().iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="could not be loaded: "):
        load_model(tmp_path, kind=kind)


def test_loading_says_nothing_and_leaves_the_logs_as_they_were(kind, capfd):
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model("demo", kind=kind)
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == before
    with pytest.raises(UnknownName):
        load_model("dmeo", kind=kind)
    assert logging.root.manager.disable == before


def test_names_describe_the_bundled_models():
    assert dict(models.names()) == {
        "demo": (
            "4 layers of 4 heads and an MLP, d_model 64, trained on the six bundled tasks (1 MB)"
        )
    }
    sizes = [file.stat().st_size for file in demo_path().iterdir() if file.is_file()]
    assert sum(sizes) < 1.2e6
    assert json.loads((demo_path() / "config.json").read_text())["model_type"] == "gpt2"


def test_every_task_can_be_written_for_the_bundled_model(demo):
    for name in tasks.DEMO:
        task = tasks.make(name, demo, 8)
        assert int(task.lengths.max()) <= demo.cfg.n_ctx
        assert task.clean.max() < demo.cfg.d_vocab


def test_importing_the_loader_imports_neither_lens():
    code = (
        "import sys, sae_circuits.models.load, sae_circuits.tasks, sae_circuits.metrics; "
        "print(sorted({'transformer_lens', 'sae_lens', 'transformers'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
