"""Budgets, and what calls then take: batch, predicted and measured peaks, and the expected time.

    python benchmarks/memory.py [--quick] [--json FILE] [--device cuda]

GPT-2's shape with fewer layers and random weights, on growing inputs. Each peak is that of a
process of its own, above what is held before; each call has run once on one short prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measure import flags, machine, peak_bytes, read_flags, table, write_json

import sae_circuits as sc
from sae_circuits.sizes import in_bytes, said
from shapes import gpt2_shaped, random_task

BASE = {"n_layers": 4, "d_model": 256, "n_heads": 8, "d_head": 32, "d_vocab": 5000}
Case = tuple[str, dict[str, int], int, int, str]  # what grows, sizes, examples, tokens, budget
METHODS: dict[str, dict[str, Any]] = {"eap": {}, "eap-ig": {"steps": 5}}


def cases(quick: bool) -> list[Case]:
    """Inputs that grow in one size, the others held."""
    tokens = (64, 128) if quick else (32, 64, 128, 256, 512)
    examples = 16 if quick else 64
    found: list[Case] = [("tokens", BASE, examples, n, "400MiB") for n in tokens]
    if quick:
        return found
    found += [("examples", BASE, n, 128, "400MiB") for n in (16, 64, 256)]
    found += [("layers", {**BASE, "n_layers": n}, 64, 128, "400MiB") for n in (2, 4, 8, 16)]
    found += [("budget", BASE, 64, 128, memory) for memory in ("200MiB", "800MiB")]
    return found


def make(case: Case, method: str, device: str) -> Callable[[], Any]:
    """One call, ready to run."""
    _, sizes, n, pos, memory = case
    torch.set_num_threads(1)
    model = gpt2_shaped(device=device, **sizes)
    graph = sc.TensorGraph.from_model(model)
    how = {"method": method, **METHODS[method]}
    sc.attribute(model, graph, random_task(model, 1, 4), **how)
    task = random_task(model, n, pos).to(device)
    return partial(sc.attribute, model, graph, task, memory=memory, **how)


def measure(case: Case, method: str, device: str) -> dict[str, Any]:
    """The plan of a call beside what is measured."""
    grows, sizes, n, pos, memory = case
    call = make(case, method, device)
    start = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    model = gpt2_shaped(device=device, **sizes)
    how = {"examples": n, "tokens": pos, "device": device, **METHODS[method]}
    (stage,) = sc.plan(model, method=method, memory=memory, **how).stages
    peak = peak_bytes(partial(make, case, method, device))
    return {
        "grows": grows,
        "method": method,
        "examples": n,
        "tokens": pos,
        "layers": sizes["n_layers"],
        "budget": in_bytes(memory, device),
        "batch": stage.batch_size,
        "predicted": stage.peak,
        "measured": peak,
        "planned_seconds": stage.seconds,
        "seconds": seconds,
    }


def main() -> None:
    args = read_flags(flags(__doc__, "two sizes only", repeats=1))
    rows = [measure(c, method, args.device) for c in cases(args.quick) for method in METHODS]
    header = ["grows", "method", "examples", "tokens", "layers", "budget", "batch"]
    header += ["predicted", "measured", "seconds planned", "seconds"]
    sizes = ("budget", "predicted", "measured")
    lines = [
        [
            said(v) if k in sizes else f"{v:.2f}" if "seconds" in k else str(v)
            for k, v in row.items()
        ]
        for row in rows
    ]
    print(f"GPT-2's shape, d_model 256, random weights; {machine()}\n")
    print(table(header, lines))
    write_json(args.json, {"memory": rows})


if __name__ == "__main__":
    main()
