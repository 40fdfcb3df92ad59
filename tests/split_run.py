"""The slow way to look at every edge: a `HookedTransformer` with its split hook points on.

Each reader gets its own copy of the stream (`use_split_qkv_input`, `use_hook_mlp_in`) and each head
its own output (`use_attn_result`), on a deep copy of the model. Nothing here comes from the
package but the graph's lists of nodes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sae_circuits.graph import Block, TensorGraph
from split_dictionaries import split_hooks

Written = dict[int, Tensor]
"""What each writer, by its index, has put into the stream: [batch, pos, d_model]."""


@dataclass(frozen=True)
class Split:
    """A copy of a model with split inputs, and the graph whose nodes are looked at."""

    model: Any
    graph: TensorGraph


def split(model: Any, graph: TensorGraph) -> Split:
    """Copy a model and turn the split hook points on in the copy."""
    model = copy.deepcopy(model)
    model.cfg.use_split_qkv_input = True
    model.cfg.use_attn_result = True
    model.cfg.use_hook_mlp_in = True
    model.cfg.ungroup_grouped_query_attention = graph.architecture.n_kv_heads < (
        graph.architecture.n_heads
    ) and any(block.kind == "head" and block.port == "k" for block in graph.readers)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return Split(model, graph)


@dataclass
class Run:
    """What one forward pass gave: logits, each writer's value, and each site's whole output."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    written: Written = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)


ReaderEdit = Callable[[int, Tensor, Written], Tensor]
"""(reader's index, its input [batch, pos, d_model], what is written so far) -> its new input."""

SiteEdit = Callable[[int, Tensor], Tensor]
"""(writing block's index, its whole output [batch, pos, d_model]) -> its new output."""


def forward(
    split: Split,
    tokens: Tensor,
    *,
    edit_reader: ReaderEdit = lambda dest, x, written: x,
    edit_site: SiteEdit = lambda block, x: x,
) -> Run:
    """Run the tokens, editing every reader's own input and every site's output on the way."""
    run = Run()
    hooks = [
        *_writer_hooks(split, edit_site, run),  # first: the logits read what is spliced in
        *split_hooks(split, edit_reader, edit_site, run),
        *_reader_hooks(split.graph, edit_reader, run),
    ]
    run.logits = split.model.run_with_hooks(tokens, fwd_hooks=hooks, return_type="logits")
    silent = {name for name, _ in hooks} - run.fired
    assert not silent, f"hooks that never fired: {sorted(silent)}"
    return run


def _reader_hooks(graph: TensorGraph, edit: ReaderEdit, run: Run) -> list[tuple[str, Any]]:
    hooks, first = [], 0
    for block in graph.readers:
        if block.site is not None:
            first += len(block)
            continue
        hooks.append((_reader_point(graph, block), _reader_hook(block, first, edit, run)))
        first += len(block)
    return hooks


def _reader_point(graph: TensorGraph, block: Block) -> str:
    if block.kind == "logits":
        return f"blocks.{graph.architecture.n_layers - 1}.hook_resid_post"
    name = "hook_mlp_in" if block.kind == "mlp" else f"hook_{block.port}_input"
    return f"blocks.{block.layer}.{name}"


def _reader_hook(block: Block, first: int, edit: ReaderEdit, run: Run) -> Any:
    def hook(x: Tensor, hook: Any) -> Tensor:
        run.fired.add(hook.name)
        if block.kind in ("mlp", "logits"):
            return edit(first, x, run.written)
        rows = list(x.unbind(2))
        for i, member in enumerate(block.members):
            rows[member] = edit(first + i, rows[member], run.written)
        return torch.stack(rows, 2)

    return hook


def _writer_hooks(split: Split, edit: SiteEdit, run: Run) -> list[tuple[str, Any]]:
    hooks, first = [], 0
    for i, block in enumerate(split.graph.writers):
        if block.site is not None:
            first += len(block)
            continue
        hooks += _site_hooks(split, block, i, first, edit, run)
        first += len(block)
    return hooks


def _site_hooks(
    split: Split, block: Block, number: int, first: int, edit: SiteEdit, run: Run
) -> list[tuple[str, Any]]:
    stash: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(x: Tensor, hook: Any) -> None:
            run.fired.add(hook.name)
            stash[name] = x

        return hook

    def whole(x: Tensor, hook: Any) -> Tensor:
        run.fired.add(hook.name)
        run.written[first] = x
        return edit(number, x)

    def heads(x: Tensor, hook: Any) -> Tensor:
        run.fired.add(hook.name)
        shares = stash["result"]
        if "scale" in stash:  # the share after the post-norm, with the scale of this very run
            norm = split.model.blocks[block.layer].ln1_post
            shares = shares / stash["scale"].unsqueeze(2) * norm.w
        for i, member in enumerate(block.members):
            run.written[first + i] = shares[:, :, member]
        return edit(number, x)

    at = f"blocks.{block.layer}"
    if block.kind == "input":
        return [("blocks.0.hook_resid_pre", whole)]
    if block.kind == "mlp":
        return [(f"{at}.hook_mlp_out", whole)]
    hooks = [(f"{at}.attn.hook_result", keep("result")), (f"{at}.hook_attn_out", heads)]
    if split.model.cfg.use_normalization_before_and_after:
        hooks.insert(1, (f"{at}.ln1_post.hook_scale", keep("scale")))
    return hooks


# -- replacements --------------------------------------------------------------------------------


def replacement(
    split: Split, task: Any, intervention: str, permutation: Tensor | None = None
) -> Written:
    """Each writer's value under an intervention, [n, pos, d_model].

    Args:
        permutation: for `resample`, which example's clean activations each example gets.
    """
    if intervention == "corrupt":
        return forward(split, task.corrupt).written
    clean = forward(split, task.clean).written
    real = torch.arange(task.clean.shape[1])[None] < task.lengths[:, None]
    real = real[..., None].to(next(iter(clean.values())).dtype)

    def constant(u: Tensor) -> Tensor:
        if intervention == "zero":
            return torch.zeros_like(u)
        if intervention == "mean":
            return ((u * real).sum((0, 1)) / real.sum()).expand_as(u)
        if intervention == "mean-positional":
            return ((u * real).sum(0) / real.sum(0).clamp(min=1)).expand_as(u)
        if intervention == "resample":
            return u[permutation]
        raise ValueError(intervention)

    return {src: constant(u) for src, u in clean.items()}


def targets_of(task: Any, clean_logits: Tensor) -> Any:
    """What a metric compares a run with."""
    from sae_circuits.metrics import Targets

    return Targets(task.answer, task.wrong, clean_logits)


def at_answers(logits: Tensor, task: Any) -> Tensor:
    """The logits at each example's answer position: [n, vocab]."""
    return logits[torch.arange(len(logits)), task.position]
