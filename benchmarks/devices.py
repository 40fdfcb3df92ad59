"""The whole table: shapes of models, batches and lengths of prompts, beside the floor, on a device.

    python benchmarks/devices.py --device cuda --json devices.json [--quick] [--only SHAPE]

For EAP and EAP-IG with 5 steps: time and peak memory beside the floor, which is the model's own
passes alone (see `attribution.py`), all examples in one batch. Weights are random; the shape of an
8B Llama is in bfloat16, the others in float32. What does not fit the device's memory is left out,
and the table says so. FILE holds each case as soon as it is measured: the same command goes on
where the last one ended or was killed, and begins no new case after --seconds.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attribution import STEPS, floor, scored
from measure import flags, highest_bytes, machine, ratios, read_flags, seconds, table, write_json

from shapes import SHAPES, random_task, shaped

METHODS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "eap": (floor, partial(scored, method="eap")),
    f"eap-ig, {STEPS} steps": (
        partial(floor, steps=STEPS),
        partial(scored, method="eap-ig", steps=STEPS),
    ),
}
BATCHES, TOKENS = (8, 16, 32, 64), (64, 128, 256, 512, 1024)
Row = dict[str, Any]


def cases(quick: bool, only: list[str] | None) -> list[tuple[str, int, int]]:
    """Shapes, batches and tokens, the small ones of each shape first."""
    if quick:
        return [(name, 2, 8) for name in ("tiny", "tiny Llama")]
    names = only or [name for name in SHAPES if not name.startswith("tiny")]
    sizes = sorted(((b, t) for b in BATCHES for t in TOKENS), key=lambda size: size[0] * size[1])
    return [(name, *size) for name in names for size in sizes]


def free_bytes(device: str) -> int:
    """What is left of a device's memory."""
    if torch.device(device).type == "cuda":
        return (
            torch.cuda.mem_get_info(device)[0]
            + torch.cuda.memory_reserved(device)
            - torch.cuda.memory_allocated(device)
        )
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def least_bytes(name: str, batch: int, pos: int) -> int:
    """What the model and the floor's passes take at least: weights, and what autograd keeps."""
    of = SHAPES[name]
    width, size = of["d_model"], of.get("dtype", torch.float32).itemsize
    mlp = of.get("d_mlp", 4 * width)
    heads = of["n_heads"] * of["d_head"]
    layer = 4 * width * heads + (3 if of.get("gated_mlp") else 2) * width * mlp
    weights = of["n_layers"] * layer + 2 * of["d_vocab"] * width
    token = of["n_layers"] * (6 * width + 2 * mlp + 2 * of["n_heads"] * pos) + 2 * of["d_vocab"]
    return size * (weights + batch * pos * token)


def measured(model: Any, name: str, batch: int, pos: int, args: Any) -> list[Row]:
    """Both methods beside their floors on one batch."""
    task = random_task(model, batch, pos).to(args.device)
    rows = []
    for method, (base, ours) in METHODS.items():
        both = {"floor": partial(base, model, task), "method": partial(ours, model, task)}
        times = seconds(both, args.repeats)
        memory = {}
        for which, function in both.items():
            gc.collect()
            memory[which] = highest_bytes(function, args.device)[0]
        rows.append({
            "shape": name, "batch": batch, "tokens": pos, "method": method,
            "floor_seconds": min(times["floor"]), "seconds": min(times["method"]),
            "time_over_floor": ratios(times, "method", "floor"),
            "floor_bytes": memory["floor"], "bytes": memory["method"],
            "memory_over_floor": memory["method"] / max(1, memory["floor"]),
        })  # fmt: skip
    return rows


def left_out(name: str, batch: int, pos: int, why: str) -> list[Row]:
    """What the table says of a case that does not fit."""
    return [{"shape": name, "batch": batch, "tokens": pos, "method": "both", "left_out": why}]


def run(todo: list[tuple[str, int, int]], args: Any, keep: Callable[[list[Row]], None]) -> None:
    """Measure cases, one shape's model at a time, until there is no time left."""
    begun, held, model = time.monotonic(), "", None
    for name, batch, pos in todo:
        if time.monotonic() - begun > args.seconds:
            return
        least = least_bytes(name, batch, pos)
        free = free_bytes(args.device) + (least_bytes(held, 0, 0) if held else 0)
        if least > free:
            keep(left_out(name, batch, pos, f"at least {gb(least)} wanted, {gb(free)} there"))
            continue
        try:
            if name != held:
                model, held = None, ""
                model, held = shaped(name, args.device), name
            keep(measured(model, name, batch, pos, args))
        except torch.OutOfMemoryError:
            keep(left_out(name, batch, pos, f"ran out of memory, of {gb(free)}"))
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def gb(size: int) -> str:
    """Bytes as gigabytes."""
    return f"{size / 1e9:,.1f} GB"


def read(path: Path | None, on: str) -> list[Row]:
    """The rows that are in a file of this machine."""
    if path is None or not path.exists():
        return []
    held = json.loads(path.read_text())
    if held["machine"] != on:
        raise SystemExit(f"{path} is of {held['machine']}, and this is {on}: give another file")
    return held["devices"]


def lines(rows: list[Row]) -> list[list[str]]:
    """The rows as text."""
    found = []
    for r in rows:
        what = [r["shape"], str(r["batch"]), f"{r['tokens']:,}", r["method"]]
        if "left_out" in r:
            found.append([*what, *[""] * 5, r["left_out"]])
            continue
        times = [f"{r['floor_seconds']:.3f}", f"{r['seconds']:.3f}", f"{r['time_over_floor']:.2f}"]
        memory = [f"{r['bytes'] / 1e9:.2f}", f"{r['memory_over_floor']:.2f}"]
        found.append([*what, *times, *memory, ""])
    return found


def main() -> None:
    """Print a table of all cases that are measured by now."""
    parser = flags(__doc__, "two tiny models", repeats=3)
    named = [name for name in SHAPES if not name.startswith("tiny")]
    parser.add_argument("--only", action="append", choices=named, help="one shape, or several")
    parser.add_argument("--seconds", type=float, default=420, help="begin no case after these")
    args = read_flags(parser)
    on, rows = machine(args.device), read(args.json, machine(args.device))
    every = cases(args.quick, args.only)
    have = {(r["shape"], r["batch"], r["tokens"]) for r in rows}
    todo = [case for case in every if case not in have]

    def keep(more: list[Row]) -> None:
        rows.extend(more)
        if args.json is not None:
            beside = args.json.with_suffix(".part")
            write_json(beside, {"devices": rows}, args.device)
            beside.replace(args.json)

    run(todo, args, keep)
    print(f"All examples in one batch; {on}\n")
    head = ["shape", "batch", "tokens", "method", "floor, s", "s", "time / floor"]
    print(table([*head, "peak GB", "memory / floor", "left out"], lines(rows)))
    have = {(r["shape"], r["batch"], r["tokens"]) for r in rows}
    missing = sum(case not in have for case in every)
    if missing:
        print(f"\n{missing} cases are not measured yet: run the same command again")


if __name__ == "__main__":
    main()
