"""Metrics that fail on purpose, in the process that evaluates them, and a job without a model."""

from __future__ import annotations

import os
import signal
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
