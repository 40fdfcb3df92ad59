"""Slow, independent edge scores: split hook points, autograd, everything written out in full.

score(u -> v) = sum over positions of (u_replaced - u_clean) . dm/d(v's own input), then the mean
over examples. The methods differ in the runs at which the gradient is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sae_circuits.graph import TensorGraph
from split_run import (
    Run,
    SiteEdit,
    Split,
    Written,
    at_answers,
    forward,
    replacement,
    split,
    targets_of,
)

Metric = Callable[[Tensor, Any], Tensor]


def reference_scores(
    model: Any,
    graph: TensorGraph,
    task: Any,
    metric: Metric,
    method: str = "eap",
    *,
    intervention: str = "corrupt",
    steps: int = 5,
    rule: str = "midpoint",
    permutation: Tensor | None = None,
) -> Tensor:
    """One score per edge id, by the named method."""
    parts = split(model, graph)
    clean = forward(parts, task.clean)
    to = replacement(parts, task, intervention, permutation)
    change = {src: to[src] - clean.written[src] for src in to}
    if method == "exact":
        return _exact(parts, task, metric, clean, change)
    if method == "eap-ig-activations":
        return _activations(parts, task, metric, clean, change, points(steps, rule))
    matrix = sum(
        weight * _products(change, _gradients(parts, task, metric, clean, tokens, site))
        for weight, tokens, site in _path(parts, task, clean, method, points(steps, rule))
    )
    return _flat(graph, matrix)


def points(steps: int, rule: str) -> list[float]:
    """How far from corrupt (0) to clean (1) each step lies."""
    return [(k + 0.5) / steps if rule == "midpoint" else k / steps for k in range(steps)]


def _path(
    parts: Split, task: Any, clean: Run, method: str, at: list[float]
) -> Iterator[tuple[float, Tensor, SiteEdit | None]]:
    """(weight, tokens, edit of a site's output) of each run that the method takes gradients at."""
    if method == "eap":
        yield 1.0, task.clean, None
    elif method == "clean-corrupted":
        yield 0.5, task.clean, None
        yield 0.5, task.corrupt, None
    elif method == "eap-ig":
        start, end = forward(parts, task.corrupt).written[0], clean.written[0]
        for a in at:
            point = start + a * (end - start)
            yield 1 / len(at), task.clean, lambda i, x, to=point: to if i == 0 else x
    else:
        raise ValueError(method)


def _gradients(
    parts: Split, task: Any, metric: Metric, clean: Run, tokens: Tensor, site: SiteEdit | None
) -> dict[int, Tensor]:
    """The gradient of the summed metric at each reader's own input: [n, pos, d_model] each."""
    probes: dict[int, Tensor] = {}

    def probe(dest: int, x: Tensor, written: Written) -> Tensor:
        probes[dest] = torch.zeros_like(x, requires_grad=True)
        return x + probes[dest]

    with torch.enable_grad():
        run = forward(parts, tokens, edit_reader=probe, edit_site=site or (lambda i, x: x))
        goal = targets_of(task, at_answers(clean.logits, task))
        total = metric(at_answers(run.logits, task), goal).sum()
        order = sorted(probes)
        gradients = torch.autograd.grad(total, [probes[dest] for dest in order])
    return dict(zip(order, gradients, strict=True))


def _products(change: Written, gradients: dict[int, Tensor]) -> Tensor:
    """The matrix [src, dest] of products, meaned over examples, in the model's dtype."""
    changes = torch.stack([change[src] for src in range(len(change))])
    at_readers = torch.stack([gradients[dest] for dest in range(len(gradients))])
    summed = torch.einsum("s n p d, r n p d -> s r", changes, at_readers)
    return summed.detach() / changes.shape[1]


def _flat(graph: TensorGraph, matrix: Tensor) -> Tensor:
    """Read a [src, dest] matrix out in the order of the edge ids, edge by edge."""
    src = {node: i for i, node in enumerate(graph.src_nodes)}
    dest = {node: i for i, node in enumerate(graph.dest_nodes)}
    return torch.stack([matrix[src[e.src], dest[e.dest]] for e in graph.edges])


def _activations(
    parts: Split, task: Any, metric: Metric, clean: Run, change: Written, at: list[float]
) -> Tensor:
    """Each site's output goes from replaced to clean in turn; only its own edges are scored."""
    graph, first = parts.graph, 0
    matrix = torch.zeros(graph.n_src, graph.n_dest, dtype=change[0].dtype)
    for number, block in enumerate(graph.writers):
        together = [block]  # what a dictionary splits moves as one
        if block.site is not None:
            together = [b for b in graph.writers if (b.site, b.layer) == (block.site, block.layer)]
            if together[0] != block:
                continue
        own = range(first, first + sum(map(len, together)))
        whole = sum(change[src] for src in own)
        for a in at:

            def towards(i: int, x: Tensor, number=number, shift=(1 - a) * whole) -> Tensor:
                return x + shift if i == number else x

            gradients = _gradients(parts, task, metric, clean, task.clean, towards)
            matrix[list(own)] += _products(change, gradients)[list(own)] / len(at)
        first += len(own)
    return _flat(graph, matrix)


def _exact(parts: Split, task: Any, metric: Metric, clean: Run, change: Written) -> Tensor:
    """The metric with one reader's view of one writer replaced, minus the clean metric."""
    goal = targets_of(task, at_answers(clean.logits, task))
    before = metric(at_answers(clean.logits, task), goal)
    index = {node: i for i, node in enumerate(parts.graph.dest_nodes)}
    of = {node: i for i, node in enumerate(parts.graph.src_nodes)}
    scores = []
    for edge in parts.graph.edges:
        src, dest = of[edge.src], index[edge.dest]
        run = patched(parts, task, {(src, dest): 1.0}, change)
        scores.append((metric(at_answers(run.logits, task), goal) - before).mean())
    return torch.stack(scores)


def patched(parts: Split, task: Any, share: dict[tuple[int, int], float], change: Written) -> Run:
    """The clean run in which each given (src, dest) carries a share of the writer's change."""

    def add(dest: int, x: Tensor, written: Written) -> Tensor:
        for (src, to), amount in share.items():
            if to == dest:
                x = x + amount * change[src]
        return x

    return forward(parts, task.clean, edit_reader=add)
