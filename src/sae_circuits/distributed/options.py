"""How Ray's workers are to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RayOptions:
    """What `workers` was asked for."""

    where: str
    n: int | None = None
    gpus_per_worker: float = 0
    load: Callable[[], Any] | None = None
    threads: int | None = None
    retries: int = 2

    @property
    def device(self) -> str:
        """Of each worker's model."""
        return "cuda" if self.gpus_per_worker else "cpu"
