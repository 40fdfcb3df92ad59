"""Metrics that fail on purpose, in the process that evaluates them, and a job without a model."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import sae_circuits as sc
from sae_circuits.metrics import Targets
from sae_circuits.shards import Job, Partial, Shard

MOST_BYTES = 1 << 60


@dataclass(frozen=True)
class Faulty:
    """The logit difference; but where an example's answer is a certain token, something happens.

    Args:
        what: "die", "nan", "memory", or "wait" a little, for all examples.
        token: the answer's.
        marks: a folder. "die" leaves a mark in it, and happens no more than `times`; the others
            happen as long as there is a file "bad" in it.
    """

    what: str
    token: int
    marks: Path
    times: int = 1

    def __call__(self, logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        value = sc.metrics.logit_diff(logits, targets)
        here = (targets.answer[:, 0] == self.token).to(value.device)
        if self.what == "wait":
            time.sleep(0.2)
        if not bool(here.any()):
            return value
        if self.what == "die":
            with_mark = [self.marks / f"died{i}" for i in range(self.times)]
            free = next((mark for mark in with_mark if not mark.exists()), None)
            if free is not None:
                free.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "nan" and (self.marks / "bad").exists():
            return torch.where(here, torch.nan, 1.0) * value
        elif self.what == "memory" and (self.marks / "bad").exists():
            torch.empty(MOST_BYTES, dtype=torch.uint8)
        return value


def kill_until_done(work: Callable[[], Any], folder: Path, took: float) -> int:
    """Run work in processes that are killed at random moments, until all its shards are there.

    Each is killed some time after it has made none, one or two of them, so that it takes many
    however fast the machine is.

    Args:
        work: writes shards into the folder, or into folders inside it.
        folder: of an undisturbed run beside it, with "whole" in place of its name.
        took: the seconds of that run.

    Returns:
        After how many kills more was there than before.
    """
    wanted = _shards(folder.with_name("whole"))
    rng, done, steps = random.Random(0), set[Path](), 0
    while done != wanted:
        child = os.fork()
        if child == 0:
            try:
                work()
            finally:
                os._exit(0)
        enough = len(done) + rng.randint(0, 2)
        while len(_shards(folder)) < enough and not os.waitpid(child, os.WNOHANG)[0]:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, took / len(wanted)))
        _kill(child)
        now = _shards(folder)
        assert now >= done  # nothing that was done is lost
        steps += now > done
        done = now
    return steps


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has ended by itself
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def kill_command_until_done(
    command: list[str], took: float, ended: Callable[[], bool] = lambda: False
) -> int:
    """Run a command that is killed at random moments of the time that it took, until it ends.

    Args:
        ended: whether all is written, so that it was killed on its way out.
    """
    rng, kills, longest = random.Random(1), 0, 0.9 * took
    while True:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen(command, **quiet)
        try:
            assert child.wait(rng.uniform(0.4, 1) * longest) == 0
            return kills
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            kills += 1
            longest *= 1.1
        if ended():
            return kills


def assert_same_files(one: Path, other: Path) -> None:
    """Two folders have the same files with the same bytes."""
    first, second = (
        {
            file.relative_to(folder): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        for folder in (one, other)
    )
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def _shards(folder: Path) -> set[Path]:
    return {file.relative_to(folder) for file in folder.rglob("0*.safetensors")}


@dataclass(frozen=True)
class Squares(Job):
    """Of the numbers of its items."""

    name = "squares"
    unit = "number"
    model = None

    @property
    def said(self) -> dict[str, Any]:
        return {}

    def describe(self, shard: Shard) -> str:
        return f"numbers {shard.start} to {shard.stop - 1}"

    def open(self) -> Callable[[Shard], Partial]:
        return lambda shard: {"squares": torch.arange(shard.start, shard.stop) ** 2}
