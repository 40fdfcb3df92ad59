"""What each method costs, in units of the model's own passes, beside the passes that it counts.

    python benchmarks/methods.py [--quick] [--json FILE] [--device cuda]

First at the GPT-2-small shape, random weights, one batch: seconds over what the counted passes take
by themselves, forward and backward measured in the same rounds; for atp-star its patterns as well,
two for each layer and each writer before it, made in plain torch. The last column should stay below
1.25. Then what has no such count: `exact` and `acdc` over the 479 edges of the bundled model, an
edge beside a forward pass; and learned masks, a step beside a forward-backward pass.
`--quick` takes 4 layers, and few steps.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from attribution import floor
from measure import flags, machine, ratios, read_flags, seconds, table, write_json

import sae_circuits as sc
from shapes import gpt2_shaped, random_task

STEPS = 5

# The method's options, its forward and its backward passes; L is the number of layers. What
# atp-star makes beside them is counted by `patterns`.
COUNTED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "eap": ("eap", {}, "2", "1"),
    "clean-corrupted": ("clean-corrupted", {}, "2", "2"),
    "eap-ig": ("eap-ig", {"steps": STEPS}, "2 + 5", "5"),
    "eap-ig-activations": ("eap-ig-activations", {"steps": 1}, "2 + 1 + 2L", "1 + 2L"),
    "relp": ("relp", {}, "2", "1"),
    "gim": ("gim", {}, "2", "1"),
    "atp-star": ("atp-star", {}, "2", "1"),
    "atp-star, grad_drop": ("atp-star", {"grad_drop": True}, "2 + L", "1 + L"),
    "mask-ig": ("mask-ig", {"steps": STEPS}, "2 + 5", "5"),
    "information-flow": ("information-flow", {}, "1", "0"),
}


def counted(n_layers: int, batch: int, pos: int, device: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds of every method with a count, beside those of the passes that it counts."""
    model = gpt2_shaped(device=device, n_layers=n_layers)
    task = random_task(model, batch, pos).to(device)
    graph = sc.TensorGraph.from_model(model)
    cases: dict[str, Any] = {
        "forward": torch.no_grad()(partial(model, task.clean)),
        "forward-backward": partial(floor, model, task, forwards=1),
        "patterns": torch.no_grad()(partial(patterns, model, task, graph)),
    }
    for name, (method, options, _, _) in COUNTED.items():
        cases[name] = partial(
            sc.attribute, model, graph, task, method=method, batch_size=batch, **options
        )
    times = seconds(cases, repeats)
    forward, both, made = (min(times[name]) for name in ("forward", "forward-backward", "patterns"))
    rows = []
    for name, (method, _, forwards, backwards) in COUNTED.items():
        n_forward, n_backward = (_number(text, n_layers) for text in (forwards, backwards))
        passes = n_forward * forward + n_backward * (both - forward)
        passes += made if method == "atp-star" else 0
        rows.append(
            {
                "method": name,
                "seconds": min(times[name]),
                "forwards": n_forward,
                "backwards": n_backward,
                "forward_backwards": ratios(times, name, "forward-backward"),
                "over_count": min(times[name]) / passes,
            }
        )
    return rows


def patterns(model: Any, task: sc.Task, graph: sc.TensorGraph) -> None:
    """For each layer and writer before it the patterns of another query, and of another key."""
    _, cache = model.run_with_cache(task.clean, names_filter=lambda n: n.endswith("resid_pre"))
    pos = task.clean.shape[1]
    later = torch.ones(pos, pos, dtype=torch.bool, device=task.clean.device).triu(1)
    for layer, block in enumerate(model.blocks):
        x, attn = cache["resid_pre", layer], block.attn
        W = torch.cat([attn.W_Q, attn.W_K]).movedim(0, 1).flatten(1)
        depth = next(b.depth for b in graph.readers if (b.layer, b.port) == (layer, "q"))
        first, end = graph.sees(depth)
        q, k = (block.ln1(x) @ W).unflatten(-1, (2, -1, attn.W_Q.shape[2])).movedim(2, 0)
        for _ in range(end - first):
            new = (block.ln1(x + 1.0) @ W).unflatten(-1, (2, -1, attn.W_Q.shape[2])).movedim(2, 0)
            for queries, keys in ((new[0], k), (q, new[1])):
                logits = torch.einsum("bihd,bjhd->bhij", queries, keys) / attn.attn_scale
                logits.masked_fill(later, -torch.inf).softmax(-1)


def _number(text: str, n_layers: int) -> int:
    """A count of passes, which may name the number of layers, as in "2 + 1 + 2L"."""

    def term(said: str) -> int:
        times, is_layers, _ = said.strip().partition("L")
        return int(times or 1) * (n_layers if is_layers else 1)

    return sum(map(term, text.split("+")))


def searches(n: int) -> list[dict[str, Any]]:
    """`exact` and `acdc` on the bundled model: the whole, and an edge beside a forward pass."""
    model = sc.load_model("demo")
    task, graph = sc.tasks.ioi(model, n=n, seed=0), sc.TensorGraph.from_model(model)
    forward = min(seconds({"f": torch.no_grad()(partial(model, task.clean))}, 5)["f"])
    rows = []
    for method in ("exact", "acdc"):
        start = time.perf_counter()
        sc.attribute(model, graph, task, method=method)
        took = time.perf_counter() - start
        rows.append(
            {
                "method": method,
                "edges": graph.n_edges,
                "seconds": took,
                "forwards_an_edge": took / graph.n_edges / forward,
            }
        )
    return rows


def learned(
    n_layers: int, batch: int, pos: int, device: str, repeats: int, steps: int
) -> list[dict[str, Any]]:
    """A step of learned masks beside a forward-backward pass; what comes before is left out."""
    model = gpt2_shaped(device=device, n_layers=n_layers)
    task = random_task(model, batch, pos).to(device)
    graph = sc.TensorGraph.from_model(model)
    cases: dict[str, Any] = {"forward-backward": partial(floor, model, task, forwards=1)}
    methods = ("edge-pruning", "ugs")
    for method in methods:
        for n in (1, 1 + steps):
            cases[f"{method} {n}"] = partial(
                sc.attribute, model, graph, task, method=method, batch_size=batch, steps=n
            )
    times = seconds(cases, repeats)
    rows = []
    for method in methods:
        more, one = times[f"{method} {1 + steps}"], times[f"{method} 1"]
        times[method] = [(b - a) / steps for a, b in zip(one, more, strict=True)]
        over = ratios(times, method, "forward-backward")
        rows.append({"method": method, "seconds_a_step": min(times[method]), "over_pass": over})
    return rows


def main() -> None:
    parser = flags(__doc__, "4 layers, and few steps", repeats=3)
    args = read_flags(parser)
    n_layers, pos = (4, 16) if args.quick else (12, 16)
    print(
        f"GPT-2-small shape, {n_layers} layers, batch 8 of {pos} tokens; {machine(args.device)}\n"
    )
    rows = counted(n_layers, 8, pos, args.device, args.repeats)
    print(
        table(
            ["method", "forwards", "backwards", "seconds", "forward-backwards", "over its count"],
            [
                [
                    r["method"],
                    str(r["forwards"]),
                    str(r["backwards"]),
                    f"{r['seconds']:.2f}",
                    f"{r['forward_backwards']:.2f}",
                    f"{r['over_count']:.2f}",
                ]
                for r in rows
            ],
        )
    )
    found = searches(8 if args.quick else 64)
    print("\nThe bundled model, indirect object identification\n")
    print(
        table(
            ["method", "edges", "seconds", "forwards an edge"],
            [
                [
                    r["method"],
                    str(r["edges"]),
                    f"{r['seconds']:.2f}",
                    f"{r['forwards_an_edge']:.2f}",
                ]
                for r in found
            ],
        )
    )
    masks = learned(n_layers, 8, pos, args.device, args.repeats, 1 if args.quick else 4)
    print("\nLearned masks\n")
    print(
        table(
            ["method", "seconds a step", "over a forward-backward pass"],
            [[r["method"], f"{r['seconds_a_step']:.2f}", f"{r['over_pass']:.2f}"] for r in masks],
        )
    )
    write_json(args.json, {"counted": rows, "searches": found, "learned": masks}, args.device)


if __name__ == "__main__":
    main()
