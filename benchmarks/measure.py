"""Seconds and peak memory of functions, measured so that they can be compared."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CLEAR_REFS = Path("/proc/self/clear_refs")


def seconds(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Time functions in turn, A B C A B C ..., after one call of each that does not count."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            _wait()
            times[name].append(time.perf_counter() - start)
    return times


def ratios(times: dict[str, list[float]], name: str, floor: str) -> float:
    """The median over the rounds of one function's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(times[name], times[floor], strict=True))


def peak_bytes(make: Callable[[], Callable[[], Any]]) -> int:
    """How far a function's peak memory stands above what was held before it, in a fresh process.

    Args:
        make: builds the function, with all that it holds beforehand; importable by name.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (make,))


def _peak(make: Callable[[], Callable[[], Any]]) -> int:
    return highest_bytes(make())[0]


def highest_bytes(function: Callable[[], Any]) -> tuple[int, Any]:
    """How far a call's peak memory stands above what was held before it, and what it returns."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = function()
        return torch.cuda.max_memory_allocated() - before, result
    if not CLEAR_REFS.exists():  # the peak then counts from the process's start
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = function()
        unit = 1 if sys.platform == "darwin" else 1024
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit, result
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before hides what is taken now
    CLEAR_REFS.write_text("5")  # the peak so far is forgotten
    before = _status("VmRSS")
    result = function()
    return _status("VmHWM") - before, result


def _status(field: str) -> int:
    """A size of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def write_json(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results, if a path is given."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
