"""Jobs over shards: their folder, what is refused, and being killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sae_circuits as sc
from faults import Faulty, assert_same_files, kill_command_until_done, kill_until_done
from sae_circuits.errors import FileFormatError, NumericalError, OutputError, ShardError
from sae_circuits.shards import Shard, fingerprint, shards_of


@pytest.fixture(scope="module")
def made() -> tuple[Any, Any, Any]:
    model = sc.load_model("demo")
    return model, sc.TensorGraph.from_model(model), sc.tasks.ioi(model, n=12, seed=0)


def scored(made: tuple[Any, Any, Any], **more: Any) -> torch.Tensor:
    how = {"method": "eap", "batch_size": 2, **more}
    return sc.attribute(*made, **how).values


# -- shards ----------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 200))
@settings(deadline=None)
def test_shards_cover_all_items_once_in_whole_batches(n: int, size: int, most: int) -> None:
    shards = shards_of(n, size, most)
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert len(shards) <= most
    assert shards[0].start == 0
    assert shards[-1].stop == n
    assert all(a.stop == b.start for a, b in pairwise(shards))
    assert all((s.stop - s.start) % size == 0 for s in shards[:-1])


# -- the same sums ---------------------------------------------------------------------------------


def test_a_folder_changes_nothing_and_a_second_call_runs_nothing(made, tmp_path: Path) -> None:
    plain = scored(made)
    assert torch.equal(scored(made, folder=tmp_path / "s"), plain)
    files = sorted((tmp_path / "s").iterdir())
    assert [f.name for f in files] == [f"{i:05}.safetensors" for i in range(6)] + ["manifest.json"]
    before = {file: file.stat().st_mtime_ns for file in files}
    assert torch.equal(scored(made, folder=tmp_path / "s"), plain)
    assert {file: file.stat().st_mtime_ns for file in files} == before


def test_scores_are_the_sum_of_the_parts_of_the_task(made) -> None:
    model, graph, task = made
    each = [sc.attribute(model, graph, task[i : i + 2], method="eap").values for i in (0, 2, 4)]
    whole = sc.attribute(model, graph, task[:6], method="eap", batch_size=2).values
    assert torch.allclose(torch.stack(each).double().mean(0).float(), whole, atol=1e-6)


@pytest.mark.parametrize("keep", ["example", "batch"])
def test_sampled_scores_nodes_spans_and_circuits_take_folders_too(
    made, tmp_path: Path, keep: str
) -> None:
    model, _, task = made
    how: dict[str, Any] = {"method": "eap", "batch_size": 5}
    a, b = (
        sc.attribute(*made, keep=keep, **how, **more) for more in ({}, {"folder": tmp_path / "a"})
    )
    assert torch.equal(a.values, b.values)
    assert torch.equal(a.each, b.each)
    plain = sc.attribute(*made, **how)
    assert torch.allclose(a.values, plain.values, atol=1e-6)
    a, b = (sc.attribute_nodes(*made, **how, **more) for more in ({}, {"folder": tmp_path / "n"}))
    assert torch.equal(a.values, b.values)
    a, b = (
        sc.attribute_spans(*made, {"end": -1}, **how, **more)
        for more in ({}, {"folder": tmp_path / "s"})
    )
    assert all(torch.equal(a[name].values, b[name].values) for name in ("end", "rest"))
    circuit = sc.prune.top_n(plain, 50)
    for intervention in ("corrupt", "mean"):
        a, b = (
            sc.evaluate(model, circuit, task, batch_size=5, intervention=intervention, **more)
            for more in ({}, {"folder": tmp_path / intervention})
        )
        assert a.faithfulness == b.faithfulness


# -- what does not fit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"method": "clean-corrupted"}, "method: eap, now clean-corrupted"),
        ({"batch_size": 3}, "batch_size: 2, now 3"),
        ({"metric": "prob_diff"}, "metric: logit_diff, now prob_diff"),
        ({"intervention": "zero"}, "intervention: corrupt, now zero"),
    ],
)
def test_a_folder_of_another_run_is_refused_with_what_differs(
    made, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    scored(made, folder=tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=said):
        scored(made, **{**more, "folder": tmp_path})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_another_metric_of_the_same_name_is_noticed(made, tmp_path: Path) -> None:
    def metric_times(factor: float) -> Any:
        def metric(logits: torch.Tensor, targets: Any) -> torch.Tensor:
            return sc.metrics.logit_diff(logits, targets) * factor

        return metric

    scored(made, metric=metric_times(1.0), folder=tmp_path)
    scored(made, metric=metric_times(1.0), folder=tmp_path)
    with pytest.raises(OutputError, match="metric code: "):
        scored(made, metric=metric_times(2.0), folder=tmp_path)


def test_a_shard_of_another_run_is_refused(made, tmp_path: Path) -> None:
    scored(made, folder=tmp_path / "a")
    scored(made, folder=tmp_path / "b", metric="prob_diff")
    shutil.copy(tmp_path / "b" / "00002.safetensors", tmp_path / "a")
    with pytest.raises(FileFormatError, match=r"00002.safetensors' is a shard of another run"):
        scored(made, folder=tmp_path / "a")
    (tmp_path / "a" / "00002.safetensors").unlink()
    assert torch.equal(scored(made, folder=tmp_path / "a"), scored(made))


@pytest.mark.parametrize("text", ["", "{}", '{"format": "x"}', "[1]", "\x00"])
def test_a_damaged_manifest_is_refused(made, tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(FileFormatError, match="cannot be read as a manifest"):
        scored(made, folder=tmp_path)


def test_a_newer_manifest_and_a_foreign_folder_are_refused(made, tmp_path: Path) -> None:
    scored(made, folder=tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(FileFormatError, match="its schema is 99, and this version reads 1"):
        scored(made, folder=tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"has 'thesis.txt' but no manifest.json"):
        scored(made, folder=tmp_path / "b")


def test_a_damaged_shard_is_refused_by_name(made, tmp_path: Path) -> None:
    scored(made, folder=tmp_path)
    path = tmp_path / "00001.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match=r"00001.safetensors' is damaged"):
        scored(made, folder=tmp_path)


# -- bad shards ------------------------------------------------------------------------------------


def test_a_bad_shard_is_told_of_and_the_others_are_kept(made, tmp_path: Path) -> None:
    _, _, task = made
    metric = Faulty("nan", int(task.answer[5, 0]), tmp_path)
    own = {int(i) // 2 for i in (task.answer[:, 0] == task.answer[5, 0]).nonzero()}
    (tmp_path / "bad").touch()
    with pytest.raises(NumericalError, match="is not finite for example"):
        scored(made, metric=metric)  # without a folder the first one ends the run
    with pytest.raises(ShardError) as caught:
        scored(made, metric=metric, folder=tmp_path / "s")
    assert {bad.shard.index for bad in caught.value.bad} == own
    assert f"{len(own)} of 6 shards of attribution failed" in str(caught.value)
    for i in own:
        assert f"examples {2 * i} to {2 * i + 1} ({task.clean_text[2 * i]!r}, ...)" in str(
            caught.value
        )
    kept = {int(file.stem) for file in (tmp_path / "s").glob("*.safetensors")}
    assert kept == set(range(6)) - own
    (tmp_path / "bad").unlink()
    assert torch.equal(scored(made, metric=metric, folder=tmp_path / "s"), scored(made))


# -- killed at any moment --------------------------------------------------------------------------


def test_killed_many_times_it_ends_with_the_same_bytes(made, tmp_path: Path) -> None:
    started = time.monotonic()
    whole = scored(made, folder=tmp_path / "whole")
    took = time.monotonic() - started
    killed = tmp_path / "killed"
    assert kill_until_done(lambda: scored(made, folder=killed), killed, took) > 1
    assert torch.equal(scored(made, folder=killed), whole)
    assert_same_files(killed, tmp_path / "whole")


@pytest.mark.slow
def test_the_command_killed_many_times_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def command(out: str) -> list[str]:
        options = ["--n", "24", "--batch-size", "2", "--edges", "40", "--steps", "20"]
        return [sys.executable, "-m", "sae_circuits.cli", "discover", "--out", out, *options]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    subprocess.run(command(str(whole)), check=True, capture_output=True)
    took = time.monotonic() - started
    assert kill_command_until_done(command(str(killed)), took) >= 1
    for name in ("scores.safetensors", "circuit.json", "curve.json", "report.json", "circuit.svg"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (killed / "shards").exists()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_fills_loses_nothing_that_is_done(made, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        with pytest.raises(OutputError, match=r"no space left on device; shard \d of 6 is lost"):
            scored(made, folder=small / "s")
        kept = sorted(file.name for file in (small / "s").iterdir())
        assert 0 < len(kept) - 1 < 6
        assert kept == [*(f"{i:05}.safetensors" for i in range(len(kept) - 1)), "manifest.json"]
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        assert torch.equal(scored(made, folder=small / "s"), scored(made))
    finally:
        subprocess.run(["umount", str(small)], check=True)


# -- what a result hangs on ------------------------------------------------------------------------


def test_a_fingerprint_says_the_same_of_the_same() -> None:
    a, b = torch.arange(3.0), torch.arange(3.0)
    assert fingerprint([a, {"x": 1}]) == fingerprint([b, {"x": 1}])
    assert fingerprint(a) != fingerprint(a.double())
    assert fingerprint(a) != fingerprint(a[None])
    assert fingerprint(a.bfloat16()) == fingerprint(b.bfloat16())
    assert fingerprint(sc.metrics.logit_diff) != fingerprint(sc.metrics.prob_diff)
    code = (
        "import sae_circuits as sc; from sae_circuits.shards import fingerprint; "
        "print(fingerprint([sc.metrics.logit_diff, 3, 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint([sc.metrics.logit_diff, 3, "x"])


def test_a_shard_is_described_by_its_examples(made) -> None:
    _, _, task = made
    assert task.describe(0, 3).startswith(f"examples 0 to 2 ({task.clean_text[0]!r}")
    assert Shard(0, 0, 3).stop == 3
