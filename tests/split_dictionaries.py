"""Dictionaries in the slow run: each feature, skip term and error node has its own input.

A dictionary on the stream, or a transcoder, is really spliced in: what the model goes on with is
the sum of what its features, its skip term and its error node make of their own inputs. One on the
output of heads or an MLP only says how that output is shared out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_OUT = {"a": "hook_attn_out", "m": "hook_mlp_out"}
_POINTS = {"pre": "hook_resid_pre", "mid": "hook_resid_mid", "post": "hook_resid_post"}


def split_hooks(split: Any, edit_reader: Any, edit_site: Any, run: Any) -> list[tuple[str, Any]]:
    """Hooks for all dictionaries of the graph, along the forward pass."""
    hooks = []
    for number, block in enumerate(split.graph.writers):
        own = [b for b in split.graph.writers if (b.site, b.layer) == (block.site, block.layer)]
        if block.site is None or own[0] != block:
            continue
        chosen = split.graph.splits[block.site, block.layer]
        kind = Neurons if chosen.kind == "neuron" else Spliced
        spliced = kind(split, chosen, own, number, edit_reader, edit_site, run)
        hooks += spliced.hooks()
    return hooks


class Spliced:
    """One dictionary in the run."""

    def __init__(self, split, chosen, blocks, number, edit_reader, edit_site, run):
        """Find its nodes' indices and its weights."""
        self.model, self.graph, self.run = split.model, split.graph, run
        self.part, self.layer, self.d = chosen.part, chosen.layer, chosen.dictionary
        self.through = self.d.is_sae and self.part in _OUT and bool(self.readers())
        self.nodes = [block.node(i) for block in blocks for i in range(len(block))]
        self.number = number
        self.edit_reader, self.edit_site = edit_reader, edit_site
        self.src = {node: i for i, node in enumerate(self.graph.src_nodes)}
        self.dest = {node: i for i, node in enumerate(self.graph.dest_nodes)}
        self.stash: dict[str, Tensor] = {}

    def hooks(self) -> list[tuple[str, Any]]:
        """Hook points with what happens there."""
        at = f"blocks.{self.layer}"
        if self.through:
            reads = "hook_mlp_in" if self.part == "m" else "hook_resid_pre"
            return [(f"{at}.{reads}", self.on_through), (f"{at}.{_OUT[self.part]}", self.on_own)]
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

    def on_through(self, x: Tensor, hook: Any) -> None:
        """Let every node run its own copy of the heads or the MLP."""
        self.run.fired.add(hook.name)
        self.give(self.read_by_each(x))

    def on_own(self, whole: Tensor, hook: Any) -> Tensor:
        """Let the model go on with the sum of what they gave."""
        self.run.fired.add(hook.name)
        return self.edit_site(self.number, self.total() + self.constant())

    def on_stream(self, x: Tensor, hook: Any) -> Tensor:
        self.run.fired.add(hook.name)
        self.give(self.read_by_each(x))
        return self.edit_site(self.number, self.total())

    def on_input(self, x: Tensor, hook: Any) -> Tensor:
        """Let the MLP run on what the error node reads."""
        self.run.fired.add(hook.name)
        self.each = self.read_by_each(x)
        return next(own for node, own in self.each.items() if node.kind == "error")

    def on_output(self, whole: Tensor, hook: Any) -> Tensor:
        self.run.fired.add(hook.name)
        if not self.d.is_sae:
            self.give(self.each, whole)
            return self.edit_site(self.number, self.total())
        f, rows = self.shared(whole)
        left = whole - self.constant()
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
        z = self.stash["z"]
        f = d.encode(z.flatten(2))
        if (scale := d.scale(z.flatten(2))) is not None:
            f = f * scale.multiply
        return f / self.stash.get("scale", 1), self.rows()

    def readers(self) -> list[Any]:
        """The blocks of this dictionary's nodes that read."""
        return [b for b in self.graph.readers if (b.site, b.layer) == (self.part, self.layer)]

    def read_by_each(self, x: Tensor) -> dict[Any, Tensor]:
        return {n: self.edit_reader(self.dest[n], x, self.run.written) for n in self.nodes}

    def made(self, own: Tensor, whole: Tensor | None) -> tuple[Tensor, Tensor, Any]:
        """Of a stream: what the encoder gets, what is split, what activations are multiplied by."""
        block, scale = self.model.blocks[self.layer], 1
        if self.d.reads.kind == "mlp_in":
            norm = getattr(block, "ln2", None)
            return own if norm is None else norm(own), whole, scale
        if self.d.reads.kind == "mlp_normalized":
            return normalised(block, own), whole, scale
        if not self.d.is_sae:
            return own, whole, scale
        read = split = own
        if self.through and self.part == "m":
            norm, post = getattr(block, "ln2", None), getattr(block, "ln2_post", None)
            read = block.mlp(own if norm is None else norm(own))
            read = split = read if post is None else post(read)
        elif self.through:
            z, out, divisor = self.heads(own)
            read, split = (z.flatten(2) if self.d.reads.kind == "z" else out), out - self.constant()
            scale = 1 / divisor if self.d.reads.kind == "z" else 1
        if (scaling := self.d.scale(read)) is not None:
            scale = scale * scaling.multiply
        return read, split, scale

    def heads(self, own: Tensor) -> tuple[Tensor, Tensor, Any]:
        """z of all heads of a stream, what they add, and what the post-norm divided that by."""
        block, kept = self.model.blocks[self.layer], {}

        def keep(name: str) -> Any:
            return lambda module, args, out: kept.update({name: out})

        x = own if getattr(block, "ln1", None) is None else block.ln1(own)
        x = x[:, :, None].expand(-1, -1, block.attn.cfg.n_heads, -1)
        keys = x[:, :, : block.attn._W_K.shape[0]] if hasattr(block.attn, "_W_K") else x
        post = getattr(block, "ln1_post", None)
        handles = [block.attn.hook_z.register_forward_hook(keep("z"))]
        if post is not None:
            handles.append(post.hook_scale.register_forward_hook(keep("scale")))
        out = block.attn(query_input=x, key_input=keys, value_input=keys)
        out = out if post is None else post(out)
        for handle in handles:
            handle.remove()
        return kept["z"], out, kept.get("scale", 1)

    def constant(self) -> Any:
        """What heads add whatever they read."""
        block = self.model.blocks[self.layer]
        if self.part == "m" or getattr(block, "ln1_post", None) is not None:
            return 0
        return 0 if block.attn.b_O is None else block.attn.b_O

    def rows(self) -> Tensor:
        """What each feature adds to the stream, per unit of its coefficient."""
        block = self.model.blocks[self.layer]
        if self.d.reads.kind != "z":
            return self.d.W_dec
        W_O, post = block.attn.W_O, getattr(block, "ln1_post", None)
        rows = torch.einsum("fhk,hkd->fd", self.d.W_dec.unflatten(1, W_O.shape[:2]), W_O)
        return rows if post is None else rows * post.w

    def give(self, each: dict[Any, Tensor], whole: Tensor | None = None) -> None:
        """Let every node write what it makes of its own input."""
        d, rows = self.d, self.rows()
        distinct = {id(own): own for own in each.values()}  # most nodes share one input
        made = {i: self.made(own, whole) for i, own in distinct.items()}
        (error,) = [node for node in each if node.kind == "error"]
        read, left, factor = made[id(each[error])]
        pres = {i: d.pre_activation(own) for i, (own, _, _) in made.items()}
        every = pres[id(each[error])]
        for node, own in each.items():
            if node.kind == "feature":
                pre = pres[id(own)][..., node.index]
                every = every.index_copy(-1, torch.tensor([node.index]), pre[..., None])
        f, alone = every * d.gate(every), d.encode(read) * factor
        for node in each:
            own, _, own_factor = made[id(each[node])]
            if node.kind == "feature":
                share = f[..., node.index, None] * own_factor
                self.run.written[self.src[node]] = share * rows[node.index]
                left = left - alone[..., node.index, None] * rows[node.index]
            elif node.kind == "skip":
                self.run.written[self.src[node]] = own @ d.W_skip
                left = left - read @ d.W_skip
        self.run.written[self.src[error]] = left

    def total(self) -> Tensor:
        return sum(self.run.written[self.src[node]] for node in self.nodes)


def normalised(block: Any, own: Tensor) -> Tensor:
    """What stands at `ln2.hook_normalized` when the MLP's norm gets this stream."""
    norm, kept = getattr(block, "ln2", None), [own]
    if not hasattr(norm, "hook_normalized"):
        return own
    handle = norm.hook_normalized.register_forward_hook(lambda module, args, x: kept.append(x))
    norm(own)
    handle.remove()
    return kept[-1]


class Neurons(Spliced):
    """The neurons of one layer's heads or MLP in the run: they say how its output is shared out."""

    def hooks(self) -> list[tuple[str, Any]]:
        """Hook points with what happens there."""
        at, post = f"blocks.{self.layer}", {"a": "ln1_post", "m": "ln2_post"}[self.part]
        point = "attn.hook_z" if self.part == "a" else "mlp.hook_post"
        hooks = [(f"{at}.{point}", self.keep_z), (f"{at}.{_OUT[self.part]}", self.on_output)]
        if self.model.cfg.use_normalization_before_and_after:
            hooks.insert(1, (f"{at}.{post}.hook_scale", self.keep_scale))
        return hooks

    def on_output(self, whole: Tensor, hook: Any) -> Tensor:
        """Share it out among the neurons, and give the error node what is left."""
        self.run.fired.add(hook.name)
        block, left = self.model.blocks[self.layer], whole - self.constant()
        W = block.attn.W_O if self.part == "a" else block.mlp.W_out
        post = getattr(block, "ln1_post" if self.part == "a" else "ln2_post", None)
        for node in self.nodes:
            at = (node.index,) if node.head is None else (node.head, node.index)
            if node.kind != "neuron":
                continue
            share = self.stash["z"][(..., *at, None)] / self.stash.get("scale", 1) * W[at]
            share = share if post is None else share * post.w
            self.run.written[self.src[node]] = share
            left = left - share
        for node in self.nodes:
            if node.kind == "error":
                self.run.written[self.src[node]] = left
        return self.edit_site(self.number, whole)
