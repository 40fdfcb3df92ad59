"""Edges between features beside the floor: the model's own passes with nothing kept or multiplied.

    python benchmarks/features_edges.py [--quick] [--part pairs] [--json FILE] [--device cuda]

A model of GPT-2 small's shape with random SAEs of 24,576 features on the stream after every layer,
about 60 of them active a token; batch 8 of 64 tokens. Floor: two forwards and one backward, as in
`attribution.py`. Timed are the choice of the strongest features (`attribute_nodes` over all
294,912), the edges among the 2,000 strongest nodes (`attribute`, with the runs, the encoding and
the kernel), and the kernel alone. Memory is the peak above what is held before, each in a process
of its own. `--quick` takes 2 layers and 16 tokens.

The second part has such SAEs after two layers in the middle, and scores all edges between features
that are active together (`attribute_pairs`), beside one forward and one backward pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from attribution import floor
from measure import flags, machine, peak_bytes, ratios, read_flags, seconds, table, write_json

import sae_circuits as sc
from sae_circuits.ablation.interventions import Intervention
from sae_circuits.attribution.methods import METHODS
from sae_circuits.attribution.pair_problem import PairProblem
from sae_circuits.attribution.pairs import score_ends
from sae_circuits.attribution.pairs_job import PairsJob
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.run import prepare
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Site
from sae_circuits.models.dictionaries.gates import Threshold
from sae_circuits.models.dictionaries.placed import Placed
from shapes import gpt2_shaped, random_task

N_FEATURES, ACTIVE, NODES = 24_576, 60, 2_000


def random_saes(model: Any, task: sc.Task, layers: Sequence[int]) -> list[sc.Dictionary]:
    """SAEs of random directions on the stream after some layers, with thresholds to match."""
    names = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    _, kept = model.run_with_cache(task.clean, names_filter=names)
    saes = []
    for layer, name in zip(layers, names, strict=True):
        x = kept[name].flatten(0, 1)
        generator = torch.Generator().manual_seed(layer)
        W = torch.randn(N_FEATURES, x.shape[1], generator=generator).to(x)
        W = W / W.norm(dim=1, keepdim=True)
        pre = (x[:64] @ W.T).flatten()
        threshold = pre.kthvalue(int(len(pre) * (1 - ACTIVE / N_FEATURES))).values
        saes.append(
            sc.Dictionary(
                name=f"random.{layer}",
                reads=Site("resid_post", layer),
                writes=(Site("resid_post", layer),),
                W_enc=W.T.contiguous(),
                b_enc=W.new_zeros(N_FEATURES),
                decoders=(W,),
                b_dec=W.new_zeros(x.shape[1]),
                gate=Threshold(threshold.expand(N_FEATURES)),
            )
        )
    return saes


@cache
def problem(quick: bool, device: str) -> tuple[Any, sc.Task, sc.TensorGraph, sc.TensorGraph]:
    """A model, a task, the graph of all features and that of the strongest."""
    sizes = {"n_layers": 2} if quick else {}
    model = gpt2_shaped(device=device, **sizes)
    task = random_task(model, 8, 16 if quick else 64).to(device)
    saes = random_saes(model, task, range(model.cfg.n_layers))
    graph = sc.TensorGraph.from_model(model, saes=saes)
    nodes = sc.attribute_nodes(model, graph, task, method="eap", batch_size=len(task))
    few = graph.restrict(nodes.features(NODES - sum(b.kind != "feature" for b in graph.writers)))
    return model, task, graph, few


def chosen(model: Any, task: sc.Task, graph: sc.TensorGraph, few: sc.TensorGraph) -> None:
    """Scores of all features as nodes."""
    sc.attribute_nodes(model, graph, task, method="eap", batch_size=len(task))


def edges(model: Any, task: sc.Task, graph: sc.TensorGraph, few: sc.TensorGraph) -> None:
    """Scores of all edges among the strongest nodes."""
    sc.attribute(model, few, task, method="eap", batch_size=len(task))


def passes(model: Any, task: sc.Task, *graphs: sc.TensorGraph) -> None:
    """The model's own passes."""
    floor(model, task)


CASES: dict[str, Callable[..., None]] = {
    "floor": passes,
    "choose among all features": chosen,
    "edges among 2,000 nodes": edges,
}


def kernel(quick: bool, device: str, repeats: int) -> float:
    """Seconds of the products alone, the runs and gradients being there."""
    model, task, _, few = problem(quick, device)
    adapter = Adapter.of(model)
    saes = Placed.all_of(adapter, few)
    prepared = Intervention.prepare(adapter, task, "corrupt", batch_size=len(task), saes=saes)
    held = Problem(adapter, few, task, sc.metrics.logit_diff, prepared, saes=saes)
    gradients = held.gradients(held.clean)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        held.score(gradients)
        times.append(time.perf_counter() - start)
    return min(times[1:])


@cache
def two_layers(quick: bool, device: str) -> tuple[Any, sc.Task, sc.TensorGraph]:
    """A model with SAEs after two layers, a task, and the graph of all their features."""
    model = gpt2_shaped(device=device, **({"n_layers": 2} if quick else {}))
    task = random_task(model, 8, 16 if quick else 64).to(device)
    middle = model.cfg.n_layers // 2
    saes = random_saes(model, task, (middle - 1, middle))
    return model, task, sc.TensorGraph.from_model(model, saes=saes)


def forward_backward(model: Any, task: sc.Task, graph: sc.TensorGraph) -> None:
    """One forward and one backward pass, over activations."""
    floor(model, task, forwards=1)


def pairs(model: Any, task: sc.Task, graph: sc.TensorGraph) -> sc.PairScores:
    """Scores of all edges between features."""
    return sc.attribute_pairs(model, graph, task, method="eap", batch_size=len(task))


def pairs_kernel(quick: bool, device: str) -> Callable[[], Any]:
    """The products and sums alone, the runs and gradients being there."""
    model, task, graph = two_layers(quick, device)
    job = prepare(
        PairProblem,
        model,
        graph,
        task,
        metric=sc.metrics.logit_diff,
        method=METHODS["eap"],
        intervention="corrupt",
        batch_size=len(task),
        memory=None,
        seed=0,
        options={},
    )
    ends = PairsJob.of(job).ends()
    return partial(score_ends, graph, ends, 1 / len(task), torch.float32)


PAIR_CASES: dict[str, Callable[..., Any]] = {
    "forward and backward": forward_backward,
    "two forwards and a backward": passes,
    "all pairs, with runs and encoding": pairs,
}


def make_pairs(case: str, quick: bool, device: str) -> Callable[[], Any]:
    """One case of the second part, ready to run."""
    if case == "the kernel of pairs":
        return pairs_kernel(quick, device)
    return partial(PAIR_CASES[case], *two_layers(quick, device))


def measure_pairs(quick: bool, device: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds and peak memory of each case of the second part."""
    cases = [*PAIR_CASES, "the kernel of pairs"]
    times = seconds({case: make_pairs(case, quick, device) for case in cases}, repeats)
    return [
        {
            "case": case,
            "seconds": min(times[case]),
            "time_over_floor": ratios(times, case, "forward and backward"),
            "bytes": peak_bytes(partial(make_pairs, case, quick, device), device),
        }
        for case in cases
    ]


def make(case: str, quick: bool, device: str) -> Callable[[], None]:
    """One case, ready to run."""
    return partial(CASES[case], *problem(quick, device))


def measure_nodes(quick: bool, device: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds and peak memory of each case of the first part."""
    made = problem(quick, device)
    times = seconds({case: partial(f, *made) for case, f in CASES.items()}, repeats)
    alone, base = kernel(quick, device, repeats), min(times["floor"])
    rows: list[dict[str, Any]] = [
        {
            "case": case,
            "seconds": min(times[case]),
            "time_over_floor": ratios(times, case, "floor"),
            "bytes": peak_bytes(partial(make, case, quick, device), device),
        }
        for case in CASES
    ]
    return [
        *rows,
        {"case": "the kernel of these", "seconds": alone, "time_over_floor": alone / base},
    ]


def show(rows: list[dict[str, Any]]) -> None:
    header = ["case", "seconds", "time / first", "peak MB"]
    lines = [
        [
            str(r["case"]),
            f"{r['seconds']:.2f}",
            f"{r['time_over_floor']:.2f}",
            f"{r['bytes'] / 1e6:.0f}" if "bytes" in r else "",
        ]
        for r in rows
    ]
    print(table(header, lines) + "\n", flush=True)


def main() -> None:
    parser = flags(__doc__, "2 layers and 16 tokens", repeats=3)
    parser.add_argument("--part", choices=["nodes", "pairs"], help="one of the two parts alone")
    args = read_flags(parser)
    print(machine(args.device) + "\n")
    results: dict[str, Any] = {}
    if args.part != "pairs":
        results["features_edges"] = measure_nodes(args.quick, args.device, args.repeats)
        for graph in problem(args.quick, args.device)[2:]:
            print(graph)
        show(results["features_edges"])
        problem.cache_clear()
    if args.part != "nodes":
        results["pairs"] = measure_pairs(args.quick, args.device, args.repeats)
        print(pairs(*two_layers(args.quick, args.device)))
        show(results["pairs"])
    write_json(args.json, results, args.device)


if __name__ == "__main__":
    main()
