"""Steering in shards: the same texts and values, whatever was kept, killed or failed on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import sae_circuits as sc
from faults import Faulty, assert_same_files, kill_command_until_done, kill_until_done
from sae_circuits.cli.folder import begin_in, end_in
from sae_circuits.errors import OutputError, ShardError
from sae_circuits.evaluation.steered import Steered

PROMPTS = [
    f"Afterwards, Michael and Rebecca went to the {place}, and Michael gave a map to"
    for place in ("beach", "park", "lake")
]


@pytest.fixture(scope="module")
def made() -> tuple[Any, Any, Any]:
    model = sc.load_model("demo")
    return model, sc.load_saes("demo", ["z.1"])[0], sc.tasks.ioi(model, n=12, seed=0)


def steered(made: tuple[Any, Any, Any], **more: Any) -> Steered:
    model, sae, task = made
    how: dict[str, Any] = {"task": task, "batch_size": 2, "prompts": PROMPTS, "n_tokens": 3}
    how |= {"changes": {228: ("add", 4.0)}, "strengths": [0, 1], **more}
    return sc.steer(model, sae, **how)


def assert_equal(a: Steered, b: Steered) -> None:
    assert (a.before, a.texts, a.prompts) == (b.before, b.texts, b.prompts)
    assert torch.equal(a.values, b.values)
    assert torch.equal(a.clean, b.clean)


def test_a_folder_changes_nothing_and_a_second_call_runs_nothing(made, tmp_path: Path) -> None:
    plain = steered(made, temperature=2.0)
    assert_equal(steered(made, temperature=2.0, folder=tmp_path / "s"), plain)
    shards = {folder.name: len(list(folder.glob("0*"))) for folder in (tmp_path / "s").iterdir()}
    assert shards == {"metric": 6, "texts": 9}
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "s").rglob("*")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sae_circuits.connectome.steer_job.changed_run", None)
        patch.setattr("sae_circuits.models.adapter.Adapter.forward", None)
        assert_equal(steered(made, temperature=2.0, folder=tmp_path / "s"), plain)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "s").rglob("*")} == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"changes": {228: ("add", 5.0)}}, "changes: add 4 f228 at z.1, now add 5 f228 at z.1"),
        ({"strengths": [0, 2]}, r"strengths: \[0.0, 1.0\], now \[0.0, 2.0\]"),
        ({"positions": 3}, r"positions: None, now \[3\]"),
        ({"metric": "prob_diff"}, "metric: logit_diff, now prob_diff"),
        ({"n_tokens": 4}, "n_tokens: 3, now 4"),
        ({"prompts": PROMPTS[:2]}, "prompts: "),
    ],
)
def test_a_folder_of_other_steering_is_refused_with_what_differs(
    made, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    steered(made, folder=tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    with pytest.raises(OutputError, match=said):
        steered(made, **{**more, "folder": tmp_path})
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_the_seed_counts_where_texts_are_drawn(made, tmp_path: Path) -> None:
    likeliest = steered(made, folder=tmp_path / "a")
    assert steered(made, folder=tmp_path / "a", seed=1).texts == likeliest.texts
    steered(made, folder=tmp_path / "b", temperature=3.0)
    with pytest.raises(OutputError, match="seed: 0, now 1"):
        steered(made, folder=tmp_path / "b", temperature=3.0, seed=1)


def test_examples_that_fail_are_told_of_and_run_alone_later(made, tmp_path: Path) -> None:
    answers = made[2].answer[:, 0]
    metric = Faulty("memory", int(answers[5]), tmp_path)
    own = {int(i) // 2 for i in (answers == answers[5]).nonzero()}
    (tmp_path / "bad").touch()
    with pytest.raises(ShardError, match="of 6 shards of steering failed") as e:
        steered(made, metric=metric, folder=tmp_path / "s")
    assert {bad.shard.index for bad in e.value.bad} == own
    kept = {f: f.stat().st_mtime_ns for f in (tmp_path / "s" / "metric").glob("0*")}
    assert {int(file.stem) for file in kept} == set(range(6)) - own
    (tmp_path / "bad").unlink()
    assert_equal(steered(made, metric=metric, folder=tmp_path / "s"), steered(made))
    assert all(file.stat().st_mtime_ns == at for file, at in kept.items())


def test_a_strength_that_overflows_names_the_text(made, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="3 of 9 shards of writing failed") as e:
        steered(made, strengths=[0, 1e300], task=None, folder=tmp_path / "s")
    assert "texts 7 to 7 (prompt 1 at strength 1e+300, ...): the logits of prompt 1 are" in str(
        e.value
    )
    assert len(list((tmp_path / "s" / "texts").glob("0*"))) == 6


def test_killed_many_times_it_ends_with_the_same_bytes(made, tmp_path: Path) -> None:
    started = time.monotonic()
    whole = steered(made, folder=tmp_path / "whole")
    took = time.monotonic() - started
    killed = tmp_path / "killed"
    assert kill_until_done(lambda: steered(made, folder=killed), killed, took) > 1
    assert_equal(steered(made, folder=killed), whole)
    assert_same_files(killed, tmp_path / "whole")


@pytest.mark.slow
def test_the_command_killed_many_times_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def command(out: Path) -> list[str]:
        options = "--sae demo --sae-id z.1 --feature 228 --task ioi --n 96 --batch-size 2".split()
        prompts = [word for text in PROMPTS for word in ("--prompt", text)]
        return [sys.executable, "-m", "sae_circuits.cli", "steer", *options, *prompts,
                "--out", str(out)]  # fmt: skip

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    subprocess.run(command(whole), check=True, capture_output=True)
    took = time.monotonic() - started
    shards, last = killed / "shards", killed / "strengths.png"
    ended = lambda: last.exists() and not shards.exists()  # noqa: E731
    assert kill_command_until_done(command(killed), took, ended) >= 1
    for name in ("steered.json", "strengths.png"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not shards.exists()


def test_a_folder_is_gone_on_with_until_its_shards_are_gone(tmp_path: Path) -> None:
    files = ("steered.json", "strengths.png")
    begin_in(tmp_path / "out", files)
    (tmp_path / "out" / "shards" / "metric").mkdir(parents=True)
    (tmp_path / "out" / "steered.json").write_text("whole")
    (tmp_path / "out" / ".strengths.png.0123abcd.part").write_text("half")
    begin_in(tmp_path / "out", files)  # killed before its last file was written
    assert {item.name for item in (tmp_path / "out").iterdir()} == {"shards", "steered.json"}
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"has 'thesis.txt'"):
        begin_in(tmp_path / "out", files)
    (tmp_path / "out" / "thesis.txt").unlink()
    end_in(tmp_path / "out")
    assert [item.name for item in (tmp_path / "out").iterdir()] == ["steered.json"]
    with pytest.raises(OutputError, match=r"is not empty \(it has 'steered.json'\)"):
        begin_in(tmp_path / "out", files)
