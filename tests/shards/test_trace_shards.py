"""Attribution graphs in shards: the same graph, whatever was kept, killed or failed on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sae_circuits as sc
from faults import assert_same_files, kill_command_until_done, kill_until_done
from sae_circuits.errors import OutputError, ShardError
from sae_circuits.graph import AttributionGraph
from sae_circuits.tracing import job

PROMPT = "When Patrick and Steven were working at the lake, Patrick passed a ring to"
SMALL = "2MiB"  # too little to hold all rows of the prompt: those between kept nodes are made anew


@pytest.fixture(scope="module")
def made() -> tuple[Any, Any]:
    return sc.load_model("demo"), sc.load_saes("demo", kind="transcoder")


def traced(made: tuple[Any, Any], **more: Any) -> AttributionGraph:
    model, transcoders = made
    return sc.trace(model, more.pop("prompt", PROMPT), transcoders=transcoders, **more)


def assert_equal(a: AttributionGraph, b: AttributionGraph) -> None:
    assert a.nodes == b.nodes
    assert (a.replacement, a.completeness) == (b.replacement, b.completeness)
    for name in ("activation", "influence", "src", "dest", "weight"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@given(st.lists(st.integers(1, 9), min_size=1, max_size=400), st.integers(0, 40))
def test_shards_are_all_blocks_in_order_and_several_stay_small(sizes: list[int], most: int) -> None:
    blocks = list(torch.arange(sum(sizes)).split(sizes))
    shards = job._shards(blocks, most)
    assert [shard.index for shard in shards] == list(range(len(shards)))
    held = [block for shard in shards for block in shard.given]
    assert [block.tolist() for block in held] == [block.tolist() for block in blocks]
    assert shards[0].start == 0
    assert all(a.stop == b.start for a, b in pairwise(shards))
    assert all(s.stop - s.start == sum(map(len, s.given)) for s in shards)
    assert all(len(s.given) == 1 or s.stop - s.start <= most for s in shards)
    assert most < sum(sizes) or len(shards) <= 128


@pytest.mark.parametrize(("memory", "parts"), [("512MiB", 1), (SMALL, 2)])
def test_a_folder_changes_nothing_and_a_second_call_computes_no_row(
    made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str, parts: int
) -> None:
    plain = traced(made, memory=memory)
    assert_equal(traced(made, memory=memory, folder=tmp_path / "s"), plain)
    assert len(list((tmp_path / "s").iterdir())) == parts
    assert len(list((tmp_path / "s" / "all").glob("0*.safetensors"))) > 4
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "s").rglob("*")}

    def stop(*_: Any) -> None:
        raise AssertionError("rows are computed")

    monkeypatch.setattr(job, "direct_effects", stop)
    assert_equal(traced(made, memory=memory, folder=tmp_path / "s"), plain)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "s").rglob("*")} == before


@pytest.mark.parametrize("memory", ["512MiB", SMALL])
def test_other_shares_go_on_from_the_rows_of_the_whole_graph(
    made, tmp_path: Path, memory: str
) -> None:
    traced(made, memory=memory, folder=tmp_path)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "all").iterdir()}
    for shares in ({"node_share": 0.5}, {"edge_share": 0.7}, {"max_nodes": 9}):
        found = traced(made, memory=memory, folder=tmp_path, **shares)
        assert_equal(found, traced(made, memory=memory, **shares))
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "all").iterdir()} == kept


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompt": PROMPT.replace("ring", "map")}, "prompt: "),
        ({"n_logits": 2, "logit_share": 1.0}, "logits: "),
        ({"first_position": 1}, "nodes: "),
        ({"memory": "256MiB"}, "memory: 536870912, now 268435456"),
    ],
)
def test_a_folder_of_another_graph_is_refused_with_what_differs(
    made, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    traced(made, folder=tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    with pytest.raises(OutputError, match=said):
        traced(made, folder=tmp_path, **more)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_rows_that_fail_are_told_of_and_made_alone_later(
    made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, failed = job.direct_effects, list[int]()

    def failing(local: Any, nodes: Any, sources: Any, dest: torch.Tensor) -> torch.Tensor:
        if int(nodes.pos[dest].max()) == 3:
            failed.append(len(dest))
            raise MemoryError("no room")
        return compute(local, nodes, sources, dest)

    with monkeypatch.context() as patch:
        patch.setattr(job, "direct_effects", failing)
        with pytest.raises(ShardError, match=r"of trace failed; the others are kept") as e:
            traced(made, folder=tmp_path, memory="8MiB")
        with pytest.raises(MemoryError, match="no room"):
            traced(made, memory="8MiB")
    assert "of positions 3 to 3: MemoryError: no room" in str(e.value)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "all").glob("0*")}
    n_shards = len(kept) + len(e.value.bad)
    assert_equal(traced(made, folder=tmp_path, memory="8MiB"), traced(made, memory="8MiB"))
    assert all(file.stat().st_mtime_ns == at for file, at in kept.items())
    assert len(list((tmp_path / "all").glob("0*"))) == n_shards


def test_killed_many_times_it_ends_with_the_same_bytes(made, tmp_path: Path) -> None:
    started = time.monotonic()
    whole = traced(made, memory=SMALL, folder=tmp_path / "whole")
    took = time.monotonic() - started
    killed = tmp_path / "killed"
    work = lambda: traced(made, memory=SMALL, folder=killed)  # noqa: E731
    assert kill_until_done(work, killed, took) > 1
    assert_equal(traced(made, memory=SMALL, folder=killed), whole)
    assert_same_files(killed, tmp_path / "whole")


@pytest.mark.slow
def test_the_command_killed_many_times_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def command(out: Path) -> list[str]:
        options = ["--prompt", PROMPT, "--memory", "256KiB", "--out", str(out)]
        return [sys.executable, "-m", "sae_circuits.cli", "trace", *options]

    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    whole.parent.mkdir(), killed.parent.mkdir()
    started = time.monotonic()
    subprocess.run(command(whole), check=True, capture_output=True)
    assert kill_command_until_done(command(killed), time.monotonic() - started) >= 1
    for name in ("graph.json", "graph.html", "graph.neuronpedia.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (killed / "shards").exists()
