"""Seconds and peak memory of functions, measured so that they can be compared."""

from __future__ import annotations

import json
import multiprocessing
import runpy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# By its path: a peer's environment has this file, not the package.
PEAK = Path(__file__).parents[1] / "src" / "sae_circuits" / "peak.py"
highest_bytes = runpy.run_path(str(PEAK))["highest_bytes"]


def seconds(
    functions: dict[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time functions in turn, A B C A B C ..., after one call of each that does not count.

    Args:
        clock: `time.process_time` leaves out what other work on the machine takes.
    """
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            _wait()
            times[name].append(clock() - start)
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
