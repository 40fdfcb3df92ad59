"""EAP and EAP-IG beside the floor: the model's own passes with nothing kept or multiplied.

    python benchmarks/attribution.py [--quick] [--json FILE] [--device cuda]

Floor of `eap`: two forward passes and one backward over activations, parameters asking for no
gradient. Floor of `eap-ig` with m steps: two forwards and m forward-backward passes. Both with the
logits of every position, as the model's own forward gives them; the lean floor takes the logits at
the answer's position only, which is what the library does. Memory is the peak above what is held
before, each in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measure import flags, machine, peak_bytes, ratios, read_flags, seconds, table, write_json

import sae_circuits as sc
from shapes import gpt2_shaped, random_task

STEPS = 5


def floor(
    model: Any,
    task: sc.Task,
    *,
    steps: int | None = None,
    lean: bool = False,
    forwards: int = 2,
) -> None:
    """Two forwards (or one) and one backward; or two and `steps` forwards with a backward."""
    last = slice(-1, None) if lean else slice(None)

    def forward(stream: torch.Tensor) -> torch.Tensor:
        for block in model.blocks:
            stream = block(stream)
        return model.unembed(model.ln_final(stream)[:, last])

    clean, corrupt = (entering(model, tokens) for tokens in (task.clean, task.corrupt))
    with torch.no_grad():
        if forwards > 1:
            forward(corrupt)
        if steps is not None:
            forward(clean)
    rows = torch.arange(len(task))
    for _ in range(steps or 1):
        start = clean.detach().requires_grad_()
        logits = forward(start)[:, -1]
        value = logits[rows, task.answer[:, 0]] - logits[rows, task.wrong[:, 0]]
        torch.autograd.grad(value.sum(), start)


def entering(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """What enters the first layer."""
    stream, pos_embed = model.embed(tokens), getattr(model, "pos_embed", None)
    return stream if pos_embed is None else stream + pos_embed(tokens)


def scored(model: Any, task: sc.Task, method: str, **options: Any) -> sc.Scores:
    """All edges of the model, in one batch."""
    graph = sc.TensorGraph.from_model(model)
    return sc.attribute(model, graph, task, method=method, batch_size=len(task), **options)


def problem(batch: int, pos: int, device: str, **sizes: int) -> tuple[Any, sc.Task]:
    """A random model and a random task on a device."""
    model = gpt2_shaped(device=device, **sizes)
    return model, random_task(model, batch, pos).to(device)


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "floor": (floor, {}),
    "lean floor": (floor, {"lean": True}),
    "eap": (scored, {"method": "eap"}),
    "floor, 5 steps": (floor, {"steps": STEPS}),
    "lean floor, 5 steps": (floor, {"steps": STEPS, "lean": True}),
    "eap-ig, 5 steps": (scored, {"method": "eap-ig", "steps": STEPS}),
}


def make(case: str, batch: int, pos: int, device: str) -> Callable[[], Any]:
    """One case, ready to run."""
    function, options = CASES[case]
    return partial(function, *problem(batch, pos, device), **options)


def compare(batch: int, pos: int, device: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds and peak memory of every case, and the ratios to its floor."""
    held = problem(batch, pos, device)
    times = seconds({c: partial(f, *held, **o) for c, (f, o) in CASES.items()}, repeats)
    del held
    memory = {case: peak_bytes(partial(make, case, batch, pos, device), device) for case in CASES}
    rows = []
    for case in CASES:
        base = "floor, 5 steps" if case.endswith("steps") else "floor"
        rows.append(
            {
                "case": case,
                "batch": batch,
                "tokens": pos,
                "seconds": min(times[case]),
                "time_over_floor": ratios(times, case, base),
                "bytes": memory[case],
                "memory_over_floor": memory[case] / memory[base],
            }
        )
    return rows


def growth(device: str, repeats: int, quick: bool) -> list[dict[str, Any]]:
    """How EAP grows with each size, the others held; ratios to the floor of the same size."""
    small = {"n_layers": 4, "d_model": 256, "n_heads": 4, "d_vocab": 5000}
    sweeps = {
        "tokens": [{"pos": p} for p in (16, 32, 64, 128)],
        "batch": [{"batch": b} for b in (2, 4, 8, 16)],
        "layers": [{"n_layers": n} for n in (2, 4, 8, 16)],
        "heads": [{"n_heads": n, "d_head": 256 // n} for n in (2, 4, 8, 16)],
    }
    rows = []
    for name, points in sweeps.items():
        for point in points[:2] if quick else points:
            sizes = {"batch": 8, "pos": 64, **small, **point}
            held = problem(sizes.pop("batch"), sizes.pop("pos"), device, **sizes)
            cases = {c: partial(CASES[c][0], *held, **CASES[c][1]) for c in ("floor", "eap")}
            times = seconds(cases, repeats)
            rows.append(
                {
                    "grows": name,
                    "to": next(iter(point.values())),
                    "edges": sc.TensorGraph.from_model(held[0]).n_edges,
                    "floor_seconds": min(times["floor"]),
                    "eap_seconds": min(times["eap"]),
                    "time_over_floor": ratios(times, "eap", "floor"),
                }
            )
    return rows


def main() -> None:
    parser = flags(__doc__, "16 tokens and two sizes each only", repeats=5)
    args = read_flags(parser)
    rows = [
        row
        for pos in ((16,) if args.quick else (16, 64))
        for row in compare(8, pos, args.device, args.repeats)
    ]
    print(f"GPT-2-small shape, batch 8, random weights; {machine(args.device)}\n")
    print(
        table(
            ["tokens", "case", "seconds", "time / floor", "peak MB", "memory / floor"],
            [
                [
                    str(r["tokens"]),
                    r["case"],
                    f"{r['seconds']:.2f}",
                    f"{r['time_over_floor']:.2f}",
                    f"{r['bytes'] / 1e6:.0f}",
                    f"{r['memory_over_floor']:.2f}",
                ]
                for r in rows
            ],
        )
    )
    grown = growth(args.device, args.repeats, args.quick)
    print("\nGrowth of eap from 4 layers, 4 heads, d_model 256, batch 8, 64 tokens\n")
    print(
        table(
            ["grows", "to", "edges", "floor, s", "eap, s", "time / floor"],
            [
                [
                    r["grows"],
                    str(r["to"]),
                    f"{r['edges']:,}",
                    f"{r['floor_seconds']:.3f}",
                    f"{r['eap_seconds']:.3f}",
                    f"{r['time_over_floor']:.2f}",
                ]
                for r in grown
            ],
        )
    )
    write_json(args.json, {"attribution": rows, "growth": grown}, args.device)


if __name__ == "__main__":
    main()
