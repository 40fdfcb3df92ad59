"""Circuits run for real, in units of one forward pass of the model.

    python benchmarks/evaluation.py [--quick] [--json FILE] [--device cuda]

The clean and the replacement run are shared by all circuits of a call and counted apart: what one
circuit costs is the difference between a call with two more circuits and one without.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from measure import flags, machine, ratios, read_flags, seconds, table, write_json

import sae_circuits as sc
from sae_circuits.ablation import run_circuits
from shapes import gpt2_shaped, random_task


def circuits_of(scores: sc.Scores, share: float, n: int) -> list[sc.Circuit]:
    """Circuits of one size: the best edges, each with a few others left out."""
    graph = scores.graph
    best = sc.prune.top_n(scores, round(share * graph.n_edges))
    found = []
    for seed in range(n):
        drawn = torch.rand(graph.n_edges, generator=torch.Generator().manual_seed(seed))
        found.append(best.with_mask(best.mask & (drawn > 0.001)))
    return found


def run(model: Any, task: sc.Task, circuits: list[sc.Circuit]) -> torch.Tensor:
    """The logit difference of every circuit."""
    metric = sc.metrics.logit_diff
    return run_circuits(model, circuits, task, metric, batch_size=len(task))


def measure(pos: int, device: str, repeats: int) -> list[dict[str, Any]]:
    """The cost of a forward pass, of circuits of several sizes, and of a curve."""
    model = gpt2_shaped(device=device)
    task = random_task(model, 8, pos).to(device)
    graph = sc.TensorGraph.from_model(model)
    scores = sc.attribute(model, graph, task, method="eap", batch_size=8)
    shares = {"5% of the edges": 0.05, "20%": 0.2, "50%": 0.5, "all edges": 1.0}
    cases: dict[str, Any] = {
        "forward": torch.no_grad()(partial(model, task.clean)),
        "shared": partial(run, model, task, [sc.Circuit.empty(graph)]),
    }
    for name, share in shares.items():
        cases[name] = partial(
            run, model, task, [sc.Circuit.empty(graph), *circuits_of(scores, share, 2)]
        )
    cases["10-point curve"] = partial(sc.curve, model, scores, task, batch_size=8, n_random=0)
    times = seconds(cases, repeats)
    for name in shares:
        pairs = zip(times[name], times["shared"], strict=True)
        times[name] = [(whole - shared) / 2 for whole, shared in pairs]
    return [
        {"tokens": pos, "case": name, "seconds": min(times[name]),
         "forward_passes": ratios(times, name, "forward")}
        for name in cases
    ]  # fmt: skip


def main() -> None:
    parser = flags(__doc__, "16 tokens only", repeats=3)
    args = read_flags(parser)
    rows = [
        row
        for pos in ((16,) if args.quick else (16, 64))
        for row in measure(pos, args.device, args.repeats)
    ]
    print(f"GPT-2-small shape, batch 8, random weights; {machine(args.device)}\n")
    print(
        table(
            ["tokens", "case", "seconds", "forward passes"],
            [
                [str(r["tokens"]), r["case"], f"{r['seconds']:.2f}", f"{r['forward_passes']:.2f}"]
                for r in rows
            ],
        )
    )
    write_json(args.json, {"evaluation": rows}, args.device)


if __name__ == "__main__":
    main()
