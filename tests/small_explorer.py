"""Circuits, attribution graphs and pages for the explorer's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sae_circuits.evaluation import Curve
from sae_circuits.graph import AttributionGraph, Node, Provenance, Scores
from small_circuits import graph_of

MADE = Provenance(method="eap-ig", model="toy", task="ioi", metric="logit_diff")


def tied(n_layers: int = 2, n_heads: int = 2, *, seed: int = 0, step: float = 0.25) -> Scores:
    """Random scores of which many are equal, and some zero."""
    graph = graph_of(n_layers, n_heads)
    values = torch.randn(graph.n_edges, generator=torch.Generator().manual_seed(seed))
    return Scores(graph, (values / step).round() * step, MADE)


def smooth(n_layers: int = 2, n_heads: int = 2, *, seed: int = 0) -> Scores:
    """Random scores of which no two are equal."""
    graph = graph_of(n_layers, n_heads)
    values = torch.randn(graph.n_edges, generator=torch.Generator().manual_seed(seed))
    return Scores(graph, values, MADE)


def curve_of(scores: Scores, by: str = "abs", **changed: Any) -> Curve:
    """A made curve of the circuits of some scores."""
    n, fractions = scores.graph.n_edges, (0.05, 0.1, 0.25, 0.5, 1.0)
    return Curve(
        fractions=changed.get("fractions", fractions),
        n_edges=changed.get("n_edges", tuple(int(f * n) for f in fractions)),
        values=(0.5, 1.25, 2.0, 2.5, 3.0),
        random_values=((0.5, 0.5, 0.75, 1.0, 3.0), (0.5, 0.5, 0.5, 1.5, 3.0)),
        clean=3.0,
        corrupt=0.5,
        by=by,
        provenance=changed.get("provenance", scores.provenance),
        band=((-0.1, 0.1), (0.2, 0.4), (0.5, 0.7), (0.7, 0.9), (1.0, 1.0)),
        pruner=changed.get("pruner", "top_n"),
    )


def drawn(
    n_nodes: int, n_edges: int, *, n_layers: int = 26, n_tokens: int = 20
) -> AttributionGraph:
    """An attribution graph of so many nodes, with random edges upwards of random weights."""
    generator = torch.Generator().manual_seed(0)
    n_inner = n_nodes - n_tokens - 3
    layer = torch.randint(n_layers, (n_inner,), generator=generator).sort().values
    pos = torch.randint(n_tokens, (n_inner,), generator=generator)
    inner = [
        Node("feature", int(a), i, site="m", pos=int(p))
        for i, (a, p) in enumerate(zip(layer, pos, strict=True))
    ]
    tokens = [Node("input", pos=p) for p in range(n_tokens)]
    logits = [Node("logits", index=i, pos=n_tokens - 1) for i in range(3)]
    height = torch.cat([torch.full((n_tokens,), -1), layer, torch.full((3,), n_layers)])
    src = torch.randint(n_nodes, (4 * n_edges,), generator=generator)
    dest = torch.randint(n_nodes, (4 * n_edges,), generator=generator)
    pairs = torch.stack([src, dest])[:, height[src] < height[dest]].unique(dim=1)
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)[:n_edges]]
    return AttributionGraph(
        tokens=tuple(range(n_tokens)),
        text=tuple(f" word{i}" for i in range(n_tokens)),
        nodes=(*tokens, *inner, *logits),
        activation=torch.ones(n_nodes),
        influence=torch.rand(n_nodes, generator=generator),
        src=pairs[0],
        dest=pairs[1],
        weight=torch.randn(pairs.shape[1], generator=generator) ** 3,
        n_active=10 * n_nodes,
        replacement=0.5,
        completeness=0.75,
        provenance=Provenance(method="trace", model="toy"),
    )


def written(folder: Path, circuit: Any, **options: Any) -> Path:
    """The page of a circuit."""
    circuit.explore(**options).render(folder / "page.html")
    return folder / "page.html"
