"""How much memory a call needs at its peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

CLEAR_REFS = Path("/proc/self/clear_refs")
Value = TypeVar("Value")


def highest_bytes(
    function: Callable[[], Value], device: torch.device | str = "cpu"
) -> tuple[int, Value]:
    """How far a call's peak memory stands above what was held before it, and what it returns.

    Args:
        device: where the call works: a CUDA device's own memory, else the process's, from Linux's
            own record of the peak. Where there is no such record, the peak counts from the
            process's start.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = function()
        return torch.cuda.max_memory_allocated(device) - before, result
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before hides what is taken now
    try:
        CLEAR_REFS.write_text("5")  # the peak so far is forgotten
        before = _status("VmRSS")
    except OSError:
        before = _highest_ever()
        result = function()
        return _highest_ever() - before, result
    result = function()
    return _status("VmHWM") - before, result


def _status(field: str) -> int:
    """A size of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def _highest_ever() -> int:
    try:
        import resource
    except ImportError:  # Windows has none
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
