"""The bundled model does what its card says, on data that its training left out."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from sae_circuits import tasks
from sae_circuits.models import demo_path, load_model

SCRIPT = Path(__file__).parents[1] / "examples" / "train_demo_model.py"
AT_LEAST = {  # what the model is there for: accuracy over all its words, where one is right
    "ioi": 0.98,
    "greater_than": 0.98,
    "subject_verb": 0.98,
    "induction": 0.95,
    "docstring": 0.98,
    "facts": 0.98,
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_demo_model", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model():
    return load_model("demo")


@pytest.fixture(scope="module")
def figures():
    return json.loads((demo_path() / "figures.json").read_text())


@pytest.mark.parametrize("name", tasks.DEMO)
def test_the_figures_of_the_card_are_met(script, model, figures, name):
    measured = script.measure(model, script.held_out_task(name, model))
    assert measured == pytest.approx(figures[name], abs=2e-3)  # other machines round otherwise
    assert measured["accuracy over all words"] >= AT_LEAST[name]


def test_greater_than_divides_the_probability(figures):
    assert figures["greater_than"]["probability difference"] > 0.85


@pytest.mark.parametrize("name", tasks.DEMO)
def test_corrupt_prompts_take_the_answer_away(figures, name):
    unit = "probability" if name == "greater_than" else "logit"
    clean, corrupt = (figures[name][f"{unit} difference{run}"] for run in ("", ", corrupt"))
    assert corrupt < clean / 2
    assert clean - corrupt > (0.4 if name == "greater_than" else 4)


@pytest.mark.parametrize("name", tasks.DEMO)
def test_what_is_held_out_is_not_trained_on(script, model, name):
    trained, held_out = (script.part(name, held_out=flag) for flag in (False, True))
    if name != "induction":
        assert not set(trained.templates) & set(held_out.templates)
        assert set(trained.templates) | set(held_out.templates) == set(tasks.recipe(name).templates)
    for key in script.HELD_OUT_ENTRIES.get(name, ()):
        assert not set(trained.words[key]) & set(held_out.words[key])
    if name in script.HELD_OUT_PAIRS:
        entries = trained.words[script.HELD_OUT_PAIRS[name]]
        for recipe, expected in ((trained, False), (held_out, True)):
            found = script.build(recipe, model, 50, 0)
            for text in found.clean_text:
                pair = script.Pair(text, "", (), ())
                assert script.is_held_out(pair, entries) is expected


def test_pairs_are_held_out_in_either_order(script):
    names = tasks.recipe("ioi").words["names"]
    flags = {}
    for first in names[:20]:
        for second in names[:20]:
            if first != second:
                pair = script.Pair(f"When {first} and {second} went", "", (), ())
                flags[first, second] = script.is_held_out(pair, names)
    assert all(flags[pair] == flags[pair[::-1]] for pair in flags)
    assert 0.1 < sum(flags.values()) / len(flags) < 0.3


def test_the_card_holds_the_figures_and_the_hash_of_the_weights(script, figures):
    card = (demo_path() / "README.md").read_text()
    assert script.table(figures) in card
    digest = hashlib.sha256((demo_path() / "model.safetensors").read_bytes()).hexdigest()
    assert digest in card
    seconds = [float(figure) for figure in re.findall(r"(\d+\.\d+) (?:seconds )?for a `", card)]
    assert len(seconds) == 2
    assert max(seconds) < 2


@pytest.fixture
def as_it_was():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
@pytest.mark.usefixtures("as_it_was")
def test_a_seed_gives_one_model(script, tmp_path):
    first, again, other = (
        script.save(*script.train(steps=20, seed=seed), tmp_path) for seed in (1, 1, 2)
    )
    assert first == again != other
