"""Clusters of one dictionary's decoder rows, step by step, beside the product of the rows.

    python benchmarks/clusters.py [--quick] [--json FILE]
    python benchmarks/clusters.py --features 131072 --kind "near to 400"

Rows of 768 numbers: once near to 400 directions, once at random. The floor is the product of all
rows with all in tiles of 1,024, in float32, of which nothing is kept. Peaks of memory stand above
the rows, each in a fresh process. `--quick`: 4,096 features. HDBSCAN needs scikit-learn.

With `--features`, what a call of `cluster` does is done once in this process, step by step: at a
size where it takes minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
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

from sae_circuits.connectome.likeness import ByDecoder
from sae_circuits.connectome.partition import How, Neighbourhood, stability
from sae_circuits.features.decoders import unit_rows

WIDTH, BLOCKS, NOISE, TILE, K = 768, 400, 1.5, 1024, 10
KINDS = ("near to 400", "at random")


def rows_of(kind: str, n: int) -> torch.Tensor:
    """Decoder rows."""
    g = torch.Generator().manual_seed(0)
    drawn = torch.randn(n, WIDTH, generator=g)
    if kind == "at random":
        return drawn
    centres = torch.randn(BLOCKS, WIDTH, generator=g)
    return centres[torch.randint(BLOCKS, (n,), generator=g)] + NOISE * drawn


def product(rows: torch.Tensor) -> None:
    """All rows with all, tile by tile."""
    for first in range(0, len(rows), TILE):
        rows[first : first + TILE] @ rows.T


def functions(kind: str, n: int, device: str) -> dict[str, Callable[[], Any]]:
    """What is timed."""
    rows = rows_of(kind, n)
    likeness = ByDecoder(unit_rows(rows))
    graph = Neighbourhood.of(likeness, K)
    by = {method: How(method, K, 4, 1.0, 0) for method in ("louvain", "hdbscan")}
    none = np.zeros(n, dtype=np.int64)
    return {
        "product": partial(product, rows.to(device)),
        "neighbours": partial(Neighbourhood.of, likeness, K),
        "louvain": partial(graph.clusters, by["louvain"]),
        "hdbscan": partial(graph.clusters, by["hdbscan"]),
        "one sample, louvain": partial(stability, likeness, none, by["louvain"], 1, 0),
    }


def made(kind: str, n: int, name: str, device: str, threads: int) -> Callable[[], Any]:
    """One of them, in a process of its own."""
    torch.set_num_threads(threads)
    return functions(kind, n, device)[name]


def once(kind: str, n: int) -> dict[str, Any]:
    """The seconds and the peak of each step of a call."""
    likeness, how = ByDecoder(unit_rows(rows_of(kind, n))), How("louvain", K, 4, 1.0, 0)
    found: dict[str, Any] = {}

    def done(name: str, function: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        peak, value = highest_bytes(function)
        took = time.perf_counter() - start
        found[f"{kind}: {name}"] = {"seconds": took, "peak_mb": peak / 1e6}
        print(f"{name}: {took:.1f} s, {peak / 1e6:,.0f} MB", flush=True)
        return value

    graph = done("neighbours", partial(Neighbourhood.of, likeness, K))
    labels = done("louvain", partial(graph.clusters, how))
    done("one sample, louvain", partial(stability, likeness, labels, how, 1, 0))
    return found


def main() -> None:
    """Print a table."""
    parser = flags(__doc__, "fewer features", repeats=1)
    parser.add_argument("--features", type=int, help="how many, each step once")
    parser.add_argument("--kind", choices=KINDS, help="of rows; without it, of both kinds")
    args = read_flags(parser)
    kinds = KINDS if args.kind is None else (args.kind,)
    n = args.features or (4096 if args.quick else 24_576)
    print(f"{n:,} features, {WIDTH} wide, {K} neighbours of each; {machine(args.device)}\n")
    results: dict[str, Any] = {}
    for kind in kinds:
        if args.features is not None:
            results |= once(kind, n)
            continue
        for name, own in seconds(functions(kind, n, args.device), args.repeats).items():
            on = args.device if name == "product" else "cpu"  # clusters are made by the processor
            peak = peak_bytes(partial(made, kind, n, name, args.device, args.threads), on) / 1e6
            results[f"{kind}: {name}"] = {"seconds": statistics.median(own), "peak_mb": peak}
    rows = [
        [*name.split(": "), f"{r['seconds']:.1f}", f"{r['peak_mb']:,.0f}"]
        for name, r in results.items()
    ]
    print(table(["rows", "what", "seconds", "peak MB"], rows))
    write_json(args.json, {"features": n, "clusters": results}, args.device)


if __name__ == "__main__":
    main()
