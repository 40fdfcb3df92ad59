"""`sae-circuits plan`, and `--memory` of the commands that run the model."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import sae_circuits as sc
from sae_circuits.cli.app import app
from sae_circuits.models import load

RATES = ["--flops-per-second", "1e12", "--bytes-per-second", "1e10"]


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_plan_is_shown_and_written(tmp_path):
    done = run("plan", "--model", "gpt2", "--tokens", 32, "--sizes", 2, "--option", "steps=3",
               "--memory", "2GiB", "--json", tmp_path / "plan.json", *RATES)  # fmt: skip
    assert done.exit_code == 0, done.output
    same = {"flops_per_second": 1e12, "bytes_per_second": 1e10}
    found = sc.plan("gpt2", tokens=32, sizes=2, steps=3, memory="2GiB", **same)
    assert json.loads((tmp_path / "plan.json").read_text()) == json.loads(
        json.dumps(found.to_dict())
    )
    assert "158 writers" in done.output or f"{found.nodes:,} writers" in done.output
    assert "32,491 edges" in done.output
    assert "It fits: " in done.output


def test_a_shape_of_ones_own_and_features(tmp_path):
    sizes = {"layers": 2, "heads": 4, "d-model": 64, "d-mlp": 256, "vocab": 100}
    own = [text for name, n in sizes.items() for text in (f"--{name}", str(n))]
    out = tmp_path / "plan.json"
    features = ["--features", "mlp_out=50", "--features", "resid_post.1=20"]
    done = run("plan", *own, *features, "--nodes", "--method", "eap", "--json", out, *RATES)
    assert done.exit_code == 0, done.output
    arch = sc.Architecture("own", 2, 4, 4, 64, 16, 100, 64, d_mlp=256)
    expected = sc.plan(arch, method="eap", of="nodes", flops_per_second=1e12,
                       features={"mlp_out": 50, "resid_post.1": 20})  # fmt: skip
    found = json.loads(out.read_text())
    assert (found["nodes"], found["edges"]) == (expected.nodes, expected.edges)
    assert found["flops"] == expected.flops


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "gpt3"], "unknown shape 'gpt3'"),
        (["--layers", "2"], "needs --heads, --kv-heads, --d-model, --d-head, --d-mlp, --vocab"),
        (["--features", "mlp_out"], "--features 'mlp_out': give NAME=VALUE"),
        (["--option", "steps"], "--option 'steps': give NAME=VALUE"),
        (["--method", "acdc", "--features", "mlp_out=8"], "cannot be planned with features"),
        (["--memory", "lots"], "memory='lots' is no size"),
        (["--dtype", "int8"], "unknown dtype 'int8'"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    done = run("plan", *arguments, *RATES)
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(
    "command",
    [
        ["discover", "--out", "run"],
        ["evaluate", "none.json"],
        ["benchmark", "--out", "table"],
        ["connect", "--feature", "post1.f5"],
        ["steer", "--feature", "3", "--prompt", "Mary", "--sae", "demo", "--sae-id", "z.1"],
    ],
    ids=lambda command: command[0],
)
def test_what_is_no_size_of_memory_is_refused_before_the_model_is_loaded(
    command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "load_model", None)
    done = run(*command, "--memory", "lots")
    assert done.exit_code == 2, done.output
    assert "memory='lots' is no size" in done.output
