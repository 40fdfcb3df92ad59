"""Seconds and peak memory of functions, measured so that they can be compared."""

from __future__ import annotations

import argparse
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


def flags(doc: str | None, quick: str, *, repeats: int = 3) -> argparse.ArgumentParser:
    """The flags that every benchmark has.

    Args:
        doc: of the script, whose first line is said.
        quick: what --quick leaves.
        repeats: by default.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--device", default="cpu", help="where to run, such as cuda or cuda:1")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--repeats", type=int, default=repeats, help="of what is timed")
    return parser


def read_flags(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The flags as given, with torch set to the number of threads and to a device that is there."""
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {args.device}: {str(error).splitlines()[0]}")
    return args


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
        wait()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            wait()
            times[name].append(clock() - start)
    return times


def ratios(times: dict[str, list[float]], name: str, floor: str) -> float:
    """The median over the rounds of one function's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(times[name], times[floor], strict=True))


def peak_bytes(make: Callable[[], Callable[[], Any]], device: str = "cpu") -> int:
    """How far a function's peak memory stands above what was held before it, in a fresh process.

    Args:
        make: builds the function, with all that it holds beforehand; importable by name.
        device: where the function works.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (make, device))


def _peak(make: Callable[[], Callable[[], Any]], device: str) -> int:
    return highest_bytes(make(), device)[0]


def wait() -> None:
    """Let what was begun on a GPU end."""
    if torch.cuda.is_initialized():  # what runs on the CPU alone has nothing to wait for
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(device: str = "cpu") -> str:
    """What the figures were measured on."""
    on_cuda = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name(device) if on_cuda else device.upper()
    return f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def write_json(path: Path | None, results: dict[str, Any], device: str = "cpu") -> None:
    """Write the results, if a path is given."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(device), **results}, indent=2) + "\n")
