"""Connections of features and virtual weights, beside what they cannot do without.

    python benchmarks/connectome.py [--part virtual] [--quick] [--json FILE] [--device cuda]

Random weights of GPT-2 small's shape, random dictionaries. Floors, in the same rounds:

    one        all upstream features of one target, beside the model's forward pass
    pairs      all active pairs of two dictionaries over 512 tokens, beside the same
    patching   n features of one prompt, beside n/batch passes of the layers from where they write
               to where the target reads, and to the logits
    virtual    virtual weights, beside the product of decoder and encoder in tiles of 1,024

Peaks of memory stand above model and dictionaries, each in a fresh process. `--quick`: fewer
features, and a model of four layers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Int64
from measure import flags, machine, peak_bytes, ratios, read_flags, seconds, table, write_json

import sae_circuits as sc
from sae_circuits.models.dictionaries import Site
from sae_circuits.models.dictionaries.gates import relu
from shapes import gpt2_shaped

D_MODEL, TILE, HEAD = 768, 1024, (1, 0)
ACTIVE = 50  # features on a token
PATCHED, BATCH = 64, 16
PARTS = ("one", "pairs", "patching", "virtual")
Case = tuple[Any, sc.Dictionary, sc.Dictionary]


def case(n: int, device: str) -> Case:
    """Three layers of GPT-2 small's shape, and random dictionaries after the first and the last."""
    model = gpt2_shaped(n_layers=3, d_vocab=100, device=device)
    g = torch.Generator().manual_seed(0)

    def dictionary(layer: int) -> sc.Dictionary:
        W = torch.randn(n, D_MODEL, generator=g)
        W = (W / W.norm(dim=1, keepdim=True)).to(device)
        at = Site("resid_post", layer)
        zero, none = W.new_zeros(n), W.new_zeros(D_MODEL)
        return sc.Dictionary(at.name, at, (at,), W.T.contiguous(), zero, (W,), none, relu)

    return model, dictionary(0), dictionary(2)


def product(source: sc.Dictionary, target: sc.Dictionary) -> None:
    """Decoder times encoder, tile by tile."""
    for i in range(0, source.n_features, TILE):
        for j in range(0, target.n_features, TILE):
            source.W_dec[i : i + TILE] @ target.W_enc[:, j : j + TILE]


def functions(own: Case) -> dict[str, Callable[[], Any]]:
    """What is timed of virtual weights."""
    return {
        "product": partial(product, own[1], own[2]),
        "virtual_weights": partial(sc.virtual_weights, *own),
        "virtual_weights, one head": partial(sc.virtual_weights, *own, heads=[HEAD]),
    }


# -- connections -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A model with a dictionary after two of its layers, each with some `ACTIVE` features a token.

    Args:
        tokens: 512 of them.
        target: the feature that is active most.
    """

    model: Any
    saes: tuple[sc.Dictionary, sc.Dictionary]
    tokens: Int64[torch.Tensor, "batch pos"]
    layers: tuple[int, int]
    target: str


def run_of(quick: bool, device: str) -> Run:
    """Biases are such that on average `ACTIVE` features are active on a token."""
    model = gpt2_shaped(device=device, **({"n_layers": 4} if quick else {}))
    n, layers = (4096, (0, 2)) if quick else (24_576, (3, 8))
    tokens = torch.randint(model.cfg.d_vocab, (8, 64), generator=torch.Generator().manual_seed(1))
    names = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens.to(device), names_filter=lambda x: x in names)
    saes = []
    for seed, (layer, name) in enumerate(zip(layers, names, strict=True)):
        g = torch.Generator().manual_seed(seed)
        W = torch.randn(n, D_MODEL, generator=g)
        W = (W / W.norm(dim=1, keepdim=True)).to(device)
        pre = cache[name] @ W.T
        least = pre.flatten().topk(ACTIVE * tokens.numel()).values[-1]
        at = Site("resid_post", layer)
        bias, none = W.new_full((n,), -float(least)), W.new_zeros(D_MODEL)
        saes.append(sc.Dictionary(at.name, at, (at,), W.T.contiguous(), bias, (W,), none, relu))
    best = int((pre > least).sum((0, 1)).argmax())
    return Run(model, (saes[0], saes[1]), tokens, layers, f"post{layers[1]}.f{best}")


@torch.no_grad()
def forward(run: Run) -> None:
    """The model's own pass, with the logits of every position."""
    run.model(run.tokens, return_type="logits")


def one_target(run: Run) -> dict[str, Callable[[], Any]]:
    """All upstream features of one target."""
    given = run.model, run.target, run.saes, run.tokens
    return {
        "forward": partial(forward, run),
        "direct": partial(sc.connections, *given, method="direct"),
        "total": partial(sc.connections, *given, method="total"),
    }


def all_pairs(run: Run) -> dict[str, Callable[[], Any]]:
    """All active pairs."""
    given = run.model, f"post{run.layers[1]}", run.saes, run.tokens
    return {
        "forward": partial(forward, run),
        "all pairs, direct": partial(sc.pair_connections, *given, method="direct"),
    }


def patching(run: Run, n: int, batch: int) -> dict[str, Callable[[], Any]]:
    """Features of one prompt, whose runs begin where they write."""
    tokens, (first, last) = run.tokens[:1], run.layers
    found = sc.connections(run.model, run.target, run.saes, tokens, method="total")
    names = [name for name, _ in found.top(n)]
    if len(names) < n:
        raise SystemExit(f"only {len(names)} features are active on the prompt")
    stream = torch.randn(batch, tokens.shape[1], D_MODEL, device=run.saes[0].W_enc.device)

    @torch.no_grad()
    def layers() -> None:
        for _ in range(0, n, batch):
            x = stream
            for layer in range(first + 1, last + 1):
                x = run.model.blocks[layer](x)

    @torch.no_grad()
    def whole() -> None:
        for _ in range(0, n, batch):
            x = stream
            for block in run.model.blocks[first + 1 :]:
                x = block(x)
            run.model.unembed(run.model.ln_final(x))

    way = {"method": "patching", "features": names, "batch_size": batch}
    every = f"post{last}"
    return {
        "layers": layers,
        "layers to logits": whole,
        "one target": partial(sc.connections, run.model, run.target, run.saes, tokens, **way),
        "all targets": partial(sc.pair_connections, run.model, every, run.saes, tokens, **way),
    }


def made(part: str, name: str, quick: bool, device: str, threads: int) -> Callable[[], Any]:
    """One of them, in a process of its own."""
    torch.set_num_threads(threads)
    return timed(part, quick, device)[name]


def timed(part: str, quick: bool, device: str) -> dict[str, Callable[[], Any]]:
    """What is timed of a part; the floor comes first."""
    if part == "virtual":
        return functions(case(8192 if quick else 24_576, device))
    run = run_of(quick, device)
    if part == "patching":
        return patching(run, 16 if quick else PATCHED, 8 if quick else BATCH)
    return one_target(run) if part == "one" else all_pairs(run)


def main() -> None:
    """Print a table."""
    parser = flags(__doc__, "fewer features", repeats=3)
    parser.add_argument("--part", choices=PARTS, action="append", help="by default all")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine")
    args = read_flags(parser)
    print(f"{machine(args.device)}\n")
    results = {}
    for part in args.part or PARTS:
        results[part] = measured(part, args)
    write_json(args.json, results, args.device)


def measured(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one part, printed as a table."""
    of = timed(part, args.quick, args.device)
    floor = next(iter(of))
    clock = time.process_time if args.processor_time else time.perf_counter
    times = seconds(of, args.repeats, clock)
    make = partial(made, part, quick=args.quick, device=args.device, threads=args.threads)
    del of
    results = {
        name: {
            "seconds": min(own),
            "over_floor": ratios(times, name, floor),
            "least_over_floor": min(own) / min(times[floor]),
            "peak_mb": peak_bytes(partial(make, name), args.device) / 1e6,
        }
        for name, own in times.items()
    }
    rows = [
        [
            name,
            f"{r['seconds']:.2f}",
            f"{r['over_floor']:.2f}",
            f"{r['least_over_floor']:.2f}",
            f"{r['peak_mb']:,.0f}",
        ]
        for name, r in results.items()
    ]
    print(f"{part}\n")
    print(table([part, "seconds", f"over {floor}", "of the least", "peak MB"], rows), "\n")
    return results


if __name__ == "__main__":
    main()
