"""What runs in a worker's process: one model, one job at a time."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sae_circuits.shards.job import Bad, Job, Partial, Shard, attempt
from sae_circuits.shards.shipping import device_of, unpack, unpack_model

Told = tuple[str, str, str]
"""An error as its kind, what it says, and its traceback: all processes can read that."""


class Actor:
    """A worker; the model is loaded when the first job with it begins."""

    def __init__(self, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        self.device = device
        self.number: int | None = None
        self.model: Any = None
        self.opened: Callable[[Shard], Partial] | None = None

    def begin(self, job: bytes, number: int, model: bytes | Callable[[], Any]) -> Told | None:
        """Set up a job; why it cannot be, where that is so."""
        try:
            if number != self.number:
                self.number = self.model = self.opened = None  # room for the next
                is_held = isinstance(model, bytes)
                self.model = unpack_model(model, self.device) if is_held else model()
                self.number = number
            here = device_of(self.model) if self.model is not None else self.device
            own: Job = unpack(job, here, self.model)
            own.check()
            self.opened = own.open()
            return None
        except Exception as error:
            return _told(error)

    def work(self, shard: Shard) -> dict[str, np.ndarray] | Told:
        """What comes of a shard, or why nothing does."""
        assert self.opened is not None  # `begin` came first
        found = attempt(self.opened, shard)
        if isinstance(found, Bad):
            return _told(found.error)
        return {name: tensor.detach().cpu().numpy() for name, tensor in found.partial.items()}


def _told(error: BaseException) -> Told:
    return type(error).__name__, str(error), "".join(traceback.format_exception(error))
