"""Attribution graphs of one prompt: time beside the operations, growth, and beside circuit-tracer.

    python benchmarks/attribution_graph.py [--quick] [--json FILE] [--peer PYTHON]

Floor: the products of the frozen linear map, each row at the positions that it can reach and in the
layers below it, at the speed of one large product, measured in the same run. PYTHON is that of an
environment with circuit-tracer (pip install circuit-tracer), which is given the same weights. The
positional embedding is 0 there, since the peer counts it to no token, and position 0 has no
features, since the peer leaves those out. Memory is the peak above what is held before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import (
    flags,
    highest_bytes,
    machine,
    peak_bytes,
    read_flags,
    seconds,
    table,
    write_json,
)
from safetensors.torch import load_file, save_file

import sae_circuits as sc
from sae_circuits.models.dictionaries import Site
from sae_circuits.models.dictionaries.gates import relu
from shapes import GPT2_SMALL, gpt2_shaped

SMALL = {"n_layers": 4, "d_model": 256, "n_heads": 4, "d_head": 64, "d_vocab": 5000}
THRESHOLD = 2.65  # pre-activations are about standard normal: about 8 of 2,048 are active
FEATURES = 2048


def random_transcoders(model: Any, seed: int = 0) -> list[sc.Dictionary]:
    """Transcoders with about 8 active features a token."""
    generator = torch.Generator().manual_seed(seed)
    d = model.cfg.d_model

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * d**-0.5

    return [
        sc.Dictionary(
            name=f"random.{layer}",
            reads=Site("mlp_in", layer),
            writes=(Site("mlp_out", layer),),
            W_enc=draw(d, FEATURES),
            b_enc=torch.full((FEATURES,), -THRESHOLD),
            decoders=(draw(FEATURES, d),),
            b_dec=draw(d),
            gate=relu,
        )
        for layer in range(model.cfg.n_layers)
    ]


def problem(n_pos: int, device: str, **sizes: int) -> tuple[Any, torch.Tensor, list[sc.Dictionary]]:
    """A random model, a random prompt and random transcoders."""
    model = gpt2_shaped(device=device, **sizes)
    model.pos_embed.W_pos.zero_()
    tokens = torch.randint(model.cfg.d_vocab, (n_pos,), generator=torch.Generator().manual_seed(0))
    return model, tokens, [d.to(device) for d in random_transcoders(model)]


def traced(
    model: Any, tokens: torch.Tensor, transcoders: list[sc.Dictionary], **options: Any
) -> sc.AttributionGraph:
    """The graph, without what the first token's features do."""
    return sc.trace(model, tokens, transcoders=transcoders, first_position=1, **options)


def make(n_pos: int, device: str, sizes: dict[str, int], **options: Any) -> Callable[[], Any]:
    """One case, ready to run."""
    held = problem(n_pos, device, **sizes)
    traced(held[0], held[1][:4], held[2])  # imports and first calls
    return partial(traced, *held, **options)


def operations(graph: sc.AttributionGraph, cfg: Any) -> int:
    """Floating-point operations of the frozen linear map, of a graph with all its nodes.

    A row at position p meets W_write at p alone in its first layer, and at p + 1 positions in the
    others; patterns and W_V at p + 1 in all; then its sources.
    """
    hk, d = cfg.n_heads * cfg.d_head, cfg.d_model
    total = 2 * d * len(graph.weight)
    for node in graph.nodes:
        if node.kind in ("feature", "logits"):
            layers = cfg.n_layers if node.layer is None else node.layer + 1
            reach = (node.pos or 0) + 1
            total += 2 * hk * d * (1 + (layers - 1) * reach + layers * reach)
            total += layers * hk * reach * (reach + 1)  # causal patterns
    return total


def speed(d: int, device: str) -> float:
    """Operations a second of one large product as wide as the stream."""
    a, b = torch.randn(2048, d, device=device), torch.randn(d, d, device=device)
    return 2 * 2048 * d * d / min(seconds({"product": lambda: a @ b}, 7)["product"])


def grown(n_pos: int, memory: str, device: str, threads: int) -> dict[str, Any]:
    """One prompt's figures, from one call."""
    torch.set_num_threads(threads)
    run = make(n_pos, device, SMALL, memory=memory)
    start = time.perf_counter()
    peak, graph = highest_bytes(run, device)
    return {
        "tokens": n_pos,
        "nodes": graph.n_active,
        "kept": len(graph.nodes),
        "edges": len(graph.weight),
        "dense_bytes": graph.n_active**2 * 4,
        "seconds": time.perf_counter() - start,
        "bytes": peak,
    }


def growth(points: tuple[int, ...], memory: str, device: str, threads: int) -> list[dict[str, Any]]:
    """Time and peak memory as the prompt grows, with the memory for rows held."""
    rows = []
    for n_pos in points:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(grown, (n_pos, memory, device, threads)))
    return rows


def beside_floor(n_pos: int, sizes: dict[str, int], device: str, repeats: int) -> dict[str, Any]:
    """Time and the operations that it takes at least."""
    model, tokens, transcoders = problem(n_pos, device, **sizes)
    every = traced(model, tokens, transcoders, node_share=1, edge_share=1)
    count, rate = operations(every, model.cfg), speed(model.cfg.d_model, device)
    run = partial(traced, model, tokens, transcoders)
    took = min(seconds({"trace": run}, repeats)["trace"])
    return {
        "tokens": n_pos,
        "features": sum(node.kind == "feature" for node in every.nodes),
        "nodes": every.n_active,
        "operations": count,
        "speed": rate,
        "floor": count / rate,
        "seconds": took,
        "over_floor": took * rate / count,
        "bytes": peak_bytes(partial(make, n_pos, device, sizes), device),
    }


def beside_peer(
    peer: str, n_pos: int, sizes: dict[str, int], batches: tuple[int, ...], args: Any
) -> list[dict[str, Any]]:
    """The peer's time, memory and matrix at several batch sizes, with the library in between."""
    model, tokens, transcoders = problem(n_pos, "cpu", **sizes)  # as the peer
    own = traced(model, tokens, transcoders, node_share=1, edge_share=1)
    fields = "n_layers d_model n_heads d_head d_vocab d_mlp n_ctx act_fn normalization_type".split()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cfg = {field: getattr(model.cfg, field) for field in fields}
        (folder / "problem.json").write_text(json.dumps({"cfg": cfg, "tokens": tokens.tolist()}))
        save_file(dict(model.named_parameters()), folder / "model.safetensors")
        weights = {}
        for layer, d in enumerate(transcoders):
            weights |= {f"{layer}.W_enc": d.W_enc.T.contiguous(), f"{layer}.b_enc": d.b_enc}
            weights |= {f"{layer}.W_dec": d.W_dec, f"{layer}.b_dec": d.b_dec}
        save_file(weights, folder / "transcoders.safetensors")
        del weights
        for batch in batches:
            script = Path(__file__).with_name("peer_circuit_tracer.py")
            command = [peer, str(script), name, str(batch), str(args.repeats), str(args.threads)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"the peer failed:\n{done.stderr[-2000:]}")
            found = json.loads(done.stdout.splitlines()[-1])
            run = {"trace": partial(traced, model, tokens, transcoders)}
            took = min(seconds(run, args.repeats)["trace"])
            rows.append(
                {
                    "batch": batch,
                    "peer_seconds": min(found["seconds"]),
                    "peer_with_pruning": min(found["with_pruning"]),
                    "seconds": took,
                    "peer_bytes": found["bytes"],
                    "bytes": peak_bytes(partial(make, n_pos, "cpu", sizes)),
                    "difference": difference(own, load_file(folder / "peer.safetensors")),
                    "scores": [own.replacement, own.completeness],
                    "peer_scores": found["scores"],
                }
            )
    return rows


def difference(own: sc.AttributionGraph, peer: dict[str, torch.Tensor]) -> float:
    """The largest difference of two matrices of the same nodes, in units of the largest entry."""
    A = torch.zeros(len(own.nodes), len(own.nodes))
    A[own.dest, own.src] = own.weight
    n_layers, n_pos = 1 + max(n.layer or 0 for n in own.nodes), len(own.tokens)
    place = {(n.kind, n.layer, n.pos, n.index): i for i, n in enumerate(own.nodes)}
    named = [("feature", *(row[i] for i in (0, 1, 2))) for row in peer["features"].tolist()]
    named += [("error", layer, p, None) for layer in range(n_layers) for p in range(n_pos)]
    named += [("input", None, p, None) for p in range(n_pos)]
    named += [("logits", None, n_pos - 1, token) for token in peer["logits"].tolist()]
    here = [i for i, key in enumerate(named) if key in place]
    if len(here) != len(own.nodes):
        raise SystemExit(f"{len(own.nodes)} nodes, of which the peer has {len(here)}")
    own_order = torch.tensor([place[named[i]] for i in here])
    B = peer["A"][here][:, here]
    return float((A[own_order][:, own_order] - B).abs().max() / B.abs().max())


def main() -> None:
    parser = flags(__doc__, "short prompts and a small model only", repeats=3)
    parser.add_argument("--peer", help="only beside circuit-tracer, run by this python")
    parser.add_argument("--memory", default="64MiB", help="for rows, in the table of growth")
    args = read_flags(parser)
    sizes = SMALL if args.quick else GPT2_SMALL
    print(f"Random weights and transcoders, {FEATURES} features a layer; {machine(args.device)}\n")
    if args.peer:
        batches = (512, 64) if args.quick else (512, 128, 64, 32, 16)
        write_json(args.json, {"peer": show_peer(args, batches, sizes)}, args.device)
        return
    points = (16,) if args.quick else (16, 64)
    floors = show_floor([beside_floor(n, sizes, args.device, args.repeats) for n in points])
    points = (32, 64) if args.quick else (64, 128, 256, 512)
    rows = show_growth(growth(points, args.memory, args.device, args.threads), args.memory)
    write_json(args.json, {"floor": floors, "growth": rows}, args.device)


def show_floor(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    head = ["tokens", "features", "nodes", "Gop", "Gop/s", "floor, s", "s", "over floor", "peak MB"]
    print(table(head, [[
        str(r["tokens"]), f"{r['features']:,}", f"{r['nodes']:,}", f"{r['operations'] / 1e9:.0f}",
        f"{r['speed'] / 1e9:.0f}", f"{r['floor']:.2f}", f"{r['seconds']:.2f}",
        f"{r['over_floor']:.2f}", f"{r['bytes'] / 1e6:.0f}",
    ] for r in rows]))  # fmt: skip
    return rows


def show_growth(rows: list[dict[str, Any]], memory: str) -> list[dict[str, Any]]:
    print(f"\nGrowth at 4 layers, 4 heads, d_model 256, {memory} for rows\n")
    head = ["tokens", "nodes", "kept", "edges", "dense matrix, MB", "s", "peak MB"]
    print(table(head, [[
        str(r["tokens"]), f"{r['nodes']:,}", f"{r['kept']:,}", f"{r['edges']:,}",
        f"{r['dense_bytes'] / 1e6:.0f}", f"{r['seconds']:.2f}", f"{r['bytes'] / 1e6:.0f}",
    ] for r in rows]))  # fmt: skip
    return rows


def show_peer(
    args: argparse.Namespace, batches: tuple[int, ...], sizes: dict[str, int]
) -> list[dict[str, Any]]:
    rows = beside_peer(args.peer, 16, sizes, batches, args)
    head = ["batch", "peer, s", "peer with pruning, s", "peer, MB", "trace, s", "trace, MB"]
    print("Beside circuit-tracer, 16 tokens\n")
    print(table([*head, "matrices differ by"], [[
        str(r["batch"]), f"{r['peer_seconds']:.2f}", f"{r['peer_with_pruning']:.2f}",
        f"{r['peer_bytes'] / 1e6:.0f}", f"{r['seconds']:.2f}", f"{r['bytes'] / 1e6:.0f}",
        f"{r['difference']:.1e}",
    ] for r in rows]))  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
