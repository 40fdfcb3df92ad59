"""The procedure of sparse feature circuits (Marks et al. 2024, arXiv 2403.19647), written plainly.

A reader's value is the metric's gradient at what its dictionary splits, held fixed, times what the
reader writes; x is the stream that its component reads:

    feature f     sum_t g_out . W_dec[f] c_f(x)         error node     sum_t g_out . r(x)

One backward pass through the component, on the whole batch, gives the gradient in x, without the
paths through other components; its product with what a node that the reader sees changes is the
score of that edge. This is faster than the published code, and for nodes like ours: a feature has
one pass for all tokens at once, one pass serves all dictionaries that the reader sees, and features
left out are a part of the error node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import sae_circuits as sc

SEEN = {"a": 1, "m": 2, "post": 3}  # how many of the last places the readers of one see


@dataclass(frozen=True, eq=False)
class Place:
    """What a dictionary's nodes change: its features, and the error node with all else."""

    features: Tensor
    W_dec: Tensor
    error: Tensor

    def scores(self, g: Tensor) -> Tensor:
        """Of all its nodes with one reader, whose gradient is g."""
        features = ((g @ self.W_dec.T) * self.features).flatten(0, 1).sum(0)
        return torch.cat([features, (g * self.error).sum()[None]])


def plain_edges(model: Any, task: sc.Task, graph: sc.TensorGraph) -> Tensor:
    """The score of every edge between each writer and each reader: [src, dest].

    Args:
        task: prompts of one length, read at their last token.
        graph: with dictionaries on attn_out, mlp_out and resid_post of every layer.
    """
    clean, slopes = _run(model, task.clean, task)
    corrupt = _run(model, task.corrupt)[0]
    change = corrupt["input"] - clean["input"]
    none = change.new_zeros(*change.shape[:2], 0), change.new_zeros(0, change.shape[2])
    places = [Place(*none, change)]
    columns: list[Tensor] = []
    starts = [0]
    for (part, layer), split in sorted(graph.splits.items(), key=_order):
        name, seen = f"{part}{layer}", SEEN[part]
        dictionary: Any = split.dictionary
        dictionary = dictionary.only(graph.chosen(split))
        for g in _gradients(model, part, layer, dictionary, clean, slopes[name]):
            found = torch.cat([place.scores(g) for place in places[-seen:]])
            columns.append(_at(found, starts[-seen], graph.n_src))
        features = dictionary.encode(corrupt[name]) - dictionary.encode(clean[name])
        whole = corrupt[name] - clean[name]
        starts.append(starts[-1] + places[-1].features.shape[2] + 1)
        W_dec = dictionary.W_dec
        places.append(Place(features, W_dec, whole - features @ W_dec))
    columns.append(_at(places[-1].scores(slopes[name]), starts[-1], graph.n_src))
    return torch.stack(columns, 1) / len(task)


def _order(item: tuple[tuple[str, int], Any]) -> tuple[int, int]:
    (part, layer), _ = item
    return layer, SEEN[part]


def _at(values: Tensor, start: int, size: int) -> Tensor:
    """A column with some values from a row on."""
    return torch.nn.functional.pad(values, (start, size - start - len(values)))


def _run(
    model: Any, tokens: Tensor, task: sc.Task | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is kept of a run, and the gradients of a task's logit difference there."""
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[..., Tensor]:
        def keep(x: Tensor, hook: Any) -> Tensor:
            x = x.detach().requires_grad_(task is not None) if name == "input" else x
            kept[name] = x
            return x

        return keep

    hooks = [("blocks.0.hook_resid_pre", keeper("input"))]
    for layer in range(model.cfg.n_layers):
        points = {"mid": "resid_mid", "a": "attn_out", "m": "mlp_out", "post": "resid_post"}
        hooks += [
            (f"blocks.{layer}.hook_{point}", keeper(f"{part}{layer}"))
            for part, point in points.items()
        ]
    with torch.set_grad_enabled(task is not None):
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]
    if task is None:
        return kept, {}
    value = (logits.gather(1, task.answer) - logits.gather(1, task.wrong)).sum()
    found = torch.autograd.grad(value, list(kept.values()))
    slopes = dict(zip(kept, found, strict=True))
    return {name: x.detach() for name, x in kept.items()}, slopes


def _gradients(
    model: Any,
    part: str,
    layer: int,
    dictionary: sc.Dictionary,
    clean: dict[str, Tensor],
    g_out: Tensor,
) -> Iterator[Tensor]:
    """The gradient of each reader of a dictionary in the stream that its component reads."""
    block, before = model.blocks[layer], f"post{layer - 1}" if layer else "input"
    x = clean[{"a": before, "m": f"mid{layer}", "post": f"post{layer}"}[part]]
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        if part == "a":
            read = block.ln1(x)
            y = block.attn(read, read, read)
        else:
            y = block.mlp(block.ln2(x)) if part == "m" else x * 1
        c = dictionary.encode(y)
        values = (g_out @ dictionary.W_dec.T * c).flatten(0, 1).sum(0)
        rest = (g_out * (y - c @ dictionary.W_dec)).sum()
        for value in [*values, rest]:
            yield torch.autograd.grad(value, x, retain_graph=True)[0]
