"""Dictionaries in the slow run: each feature, skip term and error node has its own input.

A dictionary on the stream, or a transcoder, is really spliced in: what the model goes on with is
the sum of what its features, its skip term and its error node make of their own inputs. One on the
output of heads or an MLP only says how that output is shared out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_POINTS = {"pre": "hook_resid_pre", "mid": "hook_resid_mid", "post": "hook_resid_post"}


def split_hooks(split: Any, edit_reader: Any, edit_site: Any, run: Any) -> list[tuple[str, Any]]:
    """Hooks for all dictionaries of the graph, along the forward pass."""
    hooks = []
    for number, block in enumerate(split.graph.writers):
        own = [b for b in split.graph.writers if (b.site, b.layer) == (block.site, block.layer)]
        if block.site is None or own[0] != block:
            continue
        chosen = split.graph.splits[block.site, block.layer]
        spliced = Spliced(split, chosen, own, number, edit_reader, edit_site, run)
        hooks += spliced.hooks()
    return hooks


class Spliced:
    """One dictionary in the run."""

    def __init__(self, split, chosen, blocks, number, edit_reader, edit_site, run):
        """Find its nodes' indices and its weights."""
        self.model, self.graph, self.run = split.model, split.graph, run
        self.part, self.layer, self.d = chosen.part, chosen.layer, chosen.dictionary
        self.nodes = [block.node(i) for block in blocks for i in range(len(block))]
        self.number = number
        self.edit_reader, self.edit_site = edit_reader, edit_site
        self.src = {node: i for i, node in enumerate(self.graph.src_nodes)}
        self.dest = {node: i for i, node in enumerate(self.graph.dest_nodes)}
        self.stash: dict[str, Tensor] = {}

    def hooks(self) -> list[tuple[str, Any]]:
        """Hook points with what happens there."""
        at = f"blocks.{self.layer}"
        if self.part in _POINTS:
            return [(f"{at}.{_POINTS[self.part]}", self.on_stream)]
        if self.part == "m" and self.d.is_sae:
            return [(f"{at}.hook_mlp_out", self.on_output)]
        if self.part == "m":
            return [(f"{at}.hook_mlp_in", self.on_input), (f"{at}.hook_mlp_out", self.on_output)]
        hooks = [(f"{at}.attn.hook_z", self.keep_z), (f"{at}.hook_attn_out", self.on_output)]
        if self.model.cfg.use_normalization_before_and_after:
            hooks.insert(1, (f"{at}.ln1_post.hook_scale", self.keep_scale))
        return hooks

    # -- what each hook does -----------------------------------------------------------------

    def keep_z(self, z: Tensor, hook: Any) -> None:
        self.run.fired.add(hook.name)
        self.stash["z"] = z

    def keep_scale(self, scale: Tensor, hook: Any) -> None:
        self.run.fired.add(hook.name)
        self.stash["scale"] = scale

    def on_stream(self, x: Tensor, hook: Any) -> Tensor:
        self.run.fired.add(hook.name)
        self.give(self.read_by_each(x), lambda own: own)
        return self.edit_site(self.number, self.total())

    def on_input(self, x: Tensor, hook: Any) -> Tensor:
        """Let the MLP run on what the error node reads."""
        self.run.fired.add(hook.name)
        self.each = self.read_by_each(x)
        return next(own for node, own in self.each.items() if node.kind == "error")

    def on_output(self, whole: Tensor, hook: Any) -> Tensor:
        self.run.fired.add(hook.name)
        if not self.d.is_sae:
            self.give(self.each, lambda own: whole)
            return self.edit_site(self.number, self.total())
        f, rows = self.shared(whole)
        left = (
            whole
            if self.part == "m" or self.model.blocks[self.layer].attn.b_O is None
            else (whole - self.model.blocks[self.layer].attn.b_O)
        )
        for node in self.nodes:
            if node.kind == "feature":
                share = f[..., node.index, None] * rows[node.index]
                self.run.written[self.src[node]] = share
                left = left - share
        (error,) = [node for node in self.nodes if node.kind == "error"]
        self.run.written[self.src[error]] = left
        return self.edit_site(self.number, whole)

    # -- parts ---------------------------------------------------------------------------------

    def shared(self, whole: Tensor) -> tuple[Tensor, Tensor]:
        """All activations, and what each feature adds to the stream per unit, where heads write."""
        d = self.d
        if d.reads.kind != "z":
            f = d.encode(whole)
            scale = d.scale(whole)
            return (f if scale is None else f * scale.multiply), d.W_dec
        z, W_O = self.stash["z"], self.model.blocks[self.layer].attn.W_O
        f = d.encode(z.flatten(2))
        if (scale := d.scale(z.flatten(2))) is not None:
            f = f * scale.multiply
        rows = torch.einsum("fhk,hkd->fd", d.W_dec.unflatten(1, W_O.shape[:2]), W_O)
        if "scale" in self.stash:
            norm = self.model.blocks[self.layer].ln1_post
            return f / self.stash["scale"], rows * norm.w
        return f, rows

    def read_by_each(self, x: Tensor) -> dict[Any, Tensor]:
        return {n: self.edit_reader(self.dest[n], x, self.run.written) for n in self.nodes}

    def encoded(self, own: Tensor) -> Tensor:
        """What the encoder gets of a stream."""
        if self.d.reads.kind == "mlp_in":
            block = self.model.blocks[self.layer]
            norm = getattr(block, "ln2", None)
            return own if norm is None else norm(own)
        return own

    def give(self, each: dict[Any, Tensor], whole_of: Any) -> None:
        """Let every node write what it makes of its own input."""
        d = self.d
        (error,) = [node for node in each if node.kind == "error"]
        distinct = {id(own): own for own in each.values()}  # most share one input
        pres = {i: d.pre_activation(self.encoded(own)) for i, own in distinct.items()}
        every = pres[id(each[error])]
        for node, own in each.items():
            if node.kind == "feature":
                pre = pres[id(own)][..., node.index]
                every = every.index_copy(-1, torch.tensor([node.index]), pre[..., None])
        f = every * d.gate(every)
        read = self.encoded(each[error])
        left = whole_of(each[error])
        alone = d.encode(read)
        for node in each:
            if node.kind == "feature":
                self.run.written[self.src[node]] = f[..., node.index, None] * d.W_dec[node.index]
                left = left - alone[..., node.index, None] * d.W_dec[node.index]
            elif node.kind == "skip":
                self.run.written[self.src[node]] = self.encoded(each[node]) @ d.W_skip
                left = left - read @ d.W_skip
        self.run.written[self.src[error]] = left

    def total(self) -> Tensor:
        return sum(self.run.written[self.src[node]] for node in self.nodes)
