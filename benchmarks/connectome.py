"""Virtual weights between two dictionaries, beside the product of their weights alone.

    python benchmarks/connectome.py [--quick] [--json FILE] [--device cuda]

Three layers of GPT-2 small's shape with random weights. The floor is the product of
decoder and encoder in tiles of 1,024, of which nothing is kept. Peaks of memory stand above model
and dictionaries, each in a fresh process. `--quick`: 8,192 features by 8,192.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import machine, peak_bytes, ratios, seconds, table, write_json

import sae_circuits as sc
from sae_circuits.models.dictionaries import Site
from sae_circuits.models.dictionaries.gates import relu
from shapes import gpt2_shaped

D_MODEL, TILE, HEAD = 768, 1024, (1, 0)
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
    """What is timed."""
    return {
        "product": partial(product, own[1], own[2]),
        "virtual_weights": partial(sc.virtual_weights, *own),
        "virtual_weights, one head": partial(sc.virtual_weights, *own, heads=[HEAD]),
    }


def made(name: str, n: int, device: str, threads: int) -> Callable[[], Any]:
    """One of them, in a process of its own."""
    torch.set_num_threads(threads)
    return functions(case(n, device))[name]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer features")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    n = 8192 if args.quick else 24_576
    print(
        f"{n:,} by {n:,} features, {D_MODEL} wide: {2e-9 * n * n * D_MODEL:,.0f} Gop; {machine()}\n"
    )
    times = seconds(functions(case(n, args.device)), args.repeats)
    results = {
        name: {
            "seconds": statistics.median(own),
            "over_floor": ratios(times, name, "product"),
            "peak_mb": peak_bytes(partial(made, name, n, args.device, args.threads)) / 1e6,
        }
        for name, own in times.items()
    }
    rows = [
        [name, f"{r['seconds']:.1f}", f"{r['over_floor']:.2f}", f"{r['peak_mb']:,.0f}"]
        for name, r in results.items()
    ]
    print(table(["what", "seconds", "over the product", "peak MB"], rows))
    write_json(args.json, {"features": n, "virtual_weights": results})


if __name__ == "__main__":
    main()
