"""How fast this machine multiplies and moves, measured in less than a second each."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import torch

SIDE = {"cpu": 768, "other": 4096}  # of the matrices that are multiplied
MOVED = {"cpu": 64 << 20, "other": 1 << 30}  # bytes that are copied
SECONDS = 0.3  # at least, of each measurement


@lru_cache
def measured_rates(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Floating-point operations and bytes in a second, on a device that is here."""
    kind = torch.device(device).type
    side = SIDE.get(kind, SIDE["other"])
    a = torch.ones(side, side, device=device, dtype=dtype)
    x = torch.ones(MOVED.get(kind, MOVED["other"]), dtype=torch.uint8, device=device)
    flops = 2 * side**3 / _seconds(lambda: a @ a, kind)
    return flops, 2 * len(x) / _seconds(x.clone, kind)


def _seconds(function: Callable[[], object], kind: str) -> float:
    """Of one call, as a mean over many."""
    function()
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        function()
        if kind == "cuda":
            torch.cuda.synchronize()
        n += 1
    return (time.perf_counter() - start) / n
