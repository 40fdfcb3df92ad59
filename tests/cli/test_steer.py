from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import sae_circuits as sc
from command_line import call, done, refused
from sae_circuits.evaluation.steered import Steered
from sae_circuits.io.vectors import read_vectors

PROMPT = "Mary and John went to the park, and Mary gave a pen to"
SAE = ["--sae", "demo", "--sae-id", "z.1", "--feature", "228"]


def test_a_feature_is_steered_as_in_python(tmp_path: Path) -> None:
    said = done(
        "steer", *SAE, "--amount", "4", "--strengths", "0,1", "--positions", "3,14", "--prompt",
        PROMPT, "--task", "ioi", "--n", "8", "--n-tokens", "3", "--ray", "none",
        "--out", tmp_path / "out",
    )  # fmt: skip
    model = sc.load_model("demo")
    expected = sc.steer(
        model, sc.load_saes("demo", ["z.1"])[0], {228: ("add", 4.0)}, [PROMPT], strengths=[0, 1],
        positions=[3, 14], n_tokens=3, task=sc.tasks.ioi(model, n=8, seed=0),
    )  # fmt: skip
    found = sc.load(tmp_path / "out" / "steered.json", Steered)
    assert found.texts == expected.texts
    assert torch.equal(found.values, expected.values)
    assert found.provenance == expected.provenance
    lines = said.splitlines()
    assert lines[:3] == [
        "add 4 f228 at z.1", f"Prompt: {PROMPT}", f" unchanged  {expected.before[0]}"
    ]  # fmt: skip
    assert lines[3:5] == [
        f"         0  {expected.texts[0][0]}",
        f"         1  {expected.texts[1][0]}",
    ]
    assert lines[5:7] == [
        "  strength      logit_diff  95% interval",
        f" unchanged{float(expected.clean.mean()):>16.4f}",
    ]
    assert lines[8].startswith(f"         1{expected.curve[1]:>16.4f}  [")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "steered.json", "strengths.png"
    }  # fmt: skip


def test_vectors_of_a_file_are_steered_by_name(tmp_path: Path) -> None:
    vectors = {"b": torch.randn(64), "a": torch.randn(1, 64)}
    save_file(vectors, tmp_path / "v.safetensors")
    said = done(
        "steer", "--vectors", tmp_path / "v.safetensors", "--site", "resid_post.3", "--feature",
        "a", "--change", "project", "--strengths", "1", "--prompt", PROMPT, "--n-tokens", "2",
    )  # fmt: skip
    d = sc.directions.of_vectors("resid_post.3", {"a": vectors["a"][0], "b": vectors["b"]})
    expected = sc.steer(
        sc.load_model("demo"), d, {"a": "project"}, PROMPT, strengths=[1], n_tokens=2
    )
    assert said.splitlines()[0] == "project out a at resid_post.3"
    assert said.splitlines()[-1] == f"         1  {expected.texts[0][0]}"
    assert list(read_vectors(tmp_path / "v.safetensors")) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SAE], "there is nothing to run: give --prompt, --task or both"),
        ([*SAE[:4], "--prompt", "x"], "say which features of --sae to change"),
        (["--prompt", "x"], "give --sae with --sae-id, or --vectors"),
        ([*SAE, "--vectors", "v", "--prompt", "x"], "give --sae with --sae-id, or --vectors"),
        (["--vectors", "v", "--prompt", "x"], "--vectors and --site go together"),
        ([*SAE, "--site", "z.1", "--prompt", "x"], "--vectors and --site go together"),
        ([*SAE, "--change", "ad", "--prompt", "x"], "unknown change 'ad': did you mean 'add'"),
        ([*SAE, "--strengths", "0;1", "--prompt", "x"], "--strengths is '0;1': give numbers"),
        ([*SAE, "--strengths", "nan", "--prompt", "x"], "the strength is nan"),
        ([*SAE, "--amount", "inf", "--prompt", "x"], "the amount of feature 228 is inf"),
        ([*SAE, "--positions", "a", "--prompt", "x"], "--positions is 'a'"),
        ([*SAE, "--prompt", "x", "--gpus-per-worker", "1"], "is of Ray's workers: give --ray too"),
        ([*SAE, "--prompt", "x", "--workers", "0"], "0 workers: give one or more"),
        ([*SAE, "--metric", "logit", "--prompt", "x"], "unknown metric 'logit'"),
        ([*SAE, "--feature", "256", "--prompt", "Mary"], "0 to 255"),
        ([*SAE, "--sae-id", "z.7", "--prompt", "Mary"], "z.7"),
        (["--vectors", "none", "--site", "z.1", "--prompt", "x"], "cannot read 'none'"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    refused(call("steer", *arguments, "--out", tmp_path / "out"), message)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(2, 3)}, "'a' is [2, 3], and a vector [n] is needed"),
        ({"a": torch.ones(3)}, "3 wide at resid_post.1, where"),
        ({}, "holds no vector"),
    ],
)
def test_files_of_other_vectors_are_refused(tmp_path: Path, content, message: str) -> None:
    save_file(content, tmp_path / "v.safetensors")
    what = ["--vectors", tmp_path / "v.safetensors", "--site", "resid_post.1"]
    refused(call("steer", *what, "--prompt", "Mary"), message)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text("{}")
    what = ["--vectors", tmp_path / "v.json", "--site", "resid_post.1", "--prompt", "Mary"]
    refused(call("steer", *what), "no file of safetensors")
    (tmp_path / "v.pt").write_bytes(b"PK\x03\x04")
    refused(call("steer", *[*what[:1], tmp_path / "v.pt", *what[2:]]), "is a pickle")
