"""Slow, independent scores: each edge has a mask, a patch or a loop of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from reference_attribution import Metric
from sae_circuits.graph import TensorGraph
from split_run import Split, Written, at_answers, forward, replacement, split, targets_of


def ends_of(graph: TensorGraph) -> list[tuple[int, int]]:
    """The indices of both ends of every edge."""
    src, dest = graph.ends(torch.arange(graph.n_edges))
    return list(zip(src.tolist(), dest.tolist(), strict=True))


# -- masks -------------------------------------------------------------------------------------


def mask_gradients(
    model: Any, graph: TensorGraph, task: Any, metric: Metric, at: float, intervention: str
) -> Tensor:
    """The gradient of the mean metric in each edge's own mask, where all masks are `at`."""
    parts = split(model, graph)
    to = {src: x.detach() for src, x in replacement(parts, task, intervention).items()}
    goal = targets_of(task, at_answers(forward(parts, task.clean).logits, task))
    ends = ends_of(graph)
    masks = torch.full((graph.n_edges,), at, dtype=to[0].dtype, requires_grad=True)

    def mix(dest: int, x: Tensor, written: Written) -> Tensor:
        own = [(mask, src) for mask, (src, to_) in zip(masks, ends, strict=True) if to_ == dest]
        return x + sum(mask * (to[src] - written[src]) for mask, src in own)

    with torch.enable_grad():
        run = forward(parts, task.clean, edit_reader=mix)
        value = metric(at_answers(run.logits, task), goal).mean()
        return torch.autograd.grad(value, masks)[0]


# -- patterns ----------------------------------------------------------------------------------


@contextmanager
def seeing(module: Any, see: Any) -> Iterator[None]:
    """Inside, `see` gets the module's output, and may replace it."""
    handle = module.register_forward_hook(lambda _m, _args, out: see(out))
    try:
        yield
    finally:
        handle.remove()


def atp_star(
    model: Any,
    graph: TensorGraph,
    task: Any,
    metric: Metric,
    *,
    intervention: str = "corrupt",
    grad_drop: bool = False,
) -> Tensor:
    """One score per edge: each query's and each key's edge is patched in a run of its own."""
    parts = split(model, graph)
    to = replacement(parts, task, intervention)
    clean, patterns = _run_with_patterns(parts, task)
    change = {src: to[src] - clean.written[src] for src in to}
    layers = range(model.cfg.n_layers)
    passes = list(layers) if grad_drop else [None]
    of = [_all_gradients(parts, task, metric, clean, layer) for layer in passes]
    scores = []
    for src, dest in ends_of(graph):
        reader = graph.dest_nodes[dest]
        moved = None
        if reader.port in ("q", "k"):

            def add(i: int, x: Tensor, written: Written, src=src, dest=dest) -> Tensor:
                return x + change[src] if i == dest else x

            moved = _run_with_patterns(parts, task, add)[1][reader.layer] - patterns[reader.layer]
        each = []
        for layer, (at_readers, at_patterns) in zip(passes, of, strict=True):
            if moved is None:
                each.append((change[src] * at_readers[dest]).flatten(1).sum(1))
            else:
                each.append((moved * at_patterns[reader.layer]).flatten(1).sum(1))
            inside = reader.site not in ("pre", "mid", "post")
            if layer is not None and layer == reader.layer and inside:
                assert (each.pop() == 0).all()
        found = torch.stack(each)
        scores.append((found.abs() if grad_drop else found).mean())
    return torch.stack(scores).detach()


def _run_with_patterns(parts: Split, task: Any, edit: Any = None) -> tuple[Any, list[Tensor]]:
    patterns: list[Tensor] = []
    with ExitStack() as stack, torch.no_grad():
        for block in parts.model.blocks:
            stack.enter_context(seeing(block.attn.hook_pattern, lambda p: patterns.append(p)))
        more = {} if edit is None else {"edit_reader": edit}
        return forward(parts, task.clean, **more), patterns


def _all_gradients(
    parts: Split, task: Any, metric: Metric, clean: Any, skipped: int | None
) -> tuple[list[Tensor], list[Tensor]]:
    """At every reader's input and at every pattern, when no gradient passes through a layer."""
    at_readers: dict[int, Tensor] = {}
    at_patterns: list[Tensor] = []

    def probe(dest: int, x: Tensor, written: Written) -> Tensor:
        at_readers[dest] = torch.zeros_like(x, requires_grad=True)
        return x + at_readers[dest]

    def probe_pattern(p: Tensor) -> Tensor:
        at_patterns.append(torch.zeros_like(p, requires_grad=True))
        return p + at_patterns[-1]

    with ExitStack() as stack, torch.enable_grad():
        for layer, block in enumerate(parts.model.blocks):
            stack.enter_context(seeing(block.attn.hook_pattern, probe_pattern))
            if layer == skipped:
                for point in (block.hook_attn_out, getattr(block, "hook_mlp_out", None)):
                    if point is not None:
                        stack.enter_context(seeing(point, lambda x: x.detach()))
        run = forward(parts, task.clean, edit_reader=probe)
        goal = targets_of(task, at_answers(clean.logits, task))
        total = metric(at_answers(run.logits, task), goal).sum()
        leaves = [*(at_readers[i] for i in sorted(at_readers)), *at_patterns]
        found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return list(found[: len(at_readers)]), list(found[len(at_readers) :])


# -- information flow --------------------------------------------------------------------------


@torch.no_grad()
def information_flow(model: Any, graph: TensorGraph, task: Any) -> Tensor:
    """One score per edge, token by token."""
    parts = split(model, graph)
    inputs: dict[int, Tensor] = {}

    def keep(dest: int, x: Tensor, written: Written) -> Tensor:
        inputs[dest] = x.clone()
        return x

    written = forward(parts, task.clean, edit_reader=keep).written
    ends = ends_of(graph)
    scores = dict.fromkeys(ends, 0.0)
    for dest, reader in enumerate(graph.dest_nodes):
        sources = [src for src, to in ends if to == dest]
        for i, length in enumerate(task.lengths.tolist()):
            at = [int(task.position[i])] if reader.kind == "logits" else list(range(length))
            for t in at:
                x = inputs[dest][i, t]
                near = [
                    max(float(x.abs().sum() - (x - written[src][i, t]).abs().sum()), 0.0)
                    for src in sources
                ]
                for src, p in zip(sources, near, strict=True):
                    if sum(near) > 0:
                        scores[src, dest] += p / sum(near) / len(at) / len(task)
    return torch.tensor([scores[edge] for edge in ends], dtype=torch.float64)
