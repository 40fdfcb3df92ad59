"""Exact edge patching: the metric with only that edge corrupted, minus the clean metric.

Goldowsky-Dill et al. 2023, arXiv 2304.05969; Conmy et al. 2023, arXiv 2304.14997. Many edges go
through the model in one batch, and each starts at its destination's layer: what lies above it is
the clean run, which is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.cache.expand import expand_writes
from sae_circuits.costs.passes import Passes
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.calls import one_row
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.models.tail import Tail

PATCH_BYTES = 256 << 20  # of one layer's activations over all patches that run together


@torch.no_grad()
def score_batch(problem: Problem) -> Float[Tensor, "src dest"]:
    """Patch every edge of the graph, reader block by reader block."""
    graph = problem.graph
    patches = _Patches.of(problem)
    total = torch.zeros(
        graph.n_src, graph.n_dest, dtype=torch.float64, device=problem.adapter.device
    )
    start = 0
    for block in graph.readers:
        for src in torch.arange(*graph.sees(block.depth)).split(patches.at_once):
            total[src[0] : src[-1] + 1, start : start + len(block)] = patches.score(block, src)
        start += len(block)
    return total


@dataclass(frozen=True, eq=False)
class _Patches:
    problem: Problem
    tail: Tail
    change: Float[Tensor, "src batch pos d_model"]
    clean_metric: Float[Tensor, "batch"]
    at_once: int

    @classmethod
    def of(cls, problem: Problem) -> _Patches:
        adapter, clean = problem.adapter, problem.clean
        batch, pos = problem.batch.clean.shape
        calls = {layer: one_row(call, batch) for layer, call in clean.calls.items()}
        every = torch.arange(batch * pos, device=adapter.device)
        arch = adapter.architecture
        space = torch.empty(
            problem.graph.n_src,
            batch * pos,
            arch.d_model,
            dtype=adapter.dtype,
            device=adapter.device,
        )
        saes = {placed.name: placed for placed in problem.saes}
        change = expand_writes(
            adapter, problem.graph.writers, saes, problem.change, every, out=space
        )
        row = batch * pos * (12 * arch.d_model + arch.n_heads * pos) * adapter.dtype.itemsize
        return cls(
            problem=problem,
            tail=Tail(adapter, calls, problem.batch.position.to(adapter.device)),
            change=change.unflatten(1, (batch, pos)),
            clean_metric=problem.measure(clean.logits).detach(),
            at_once=max(1, problem.within(PATCH_BYTES) // row),
        )

    def score(self, block: Block, src: Tensor) -> Float[Tensor, "src dest"]:
        """The effect of patching the edges from some writers to the readers of one block."""
        problem, d, layer = self.problem, self.change[src], block.layer
        reads = problem.clean.reads
        if layer is None:
            stream = rows(reads.final.detach() + d)
            return self.effect(self.tail.from_final(stream))[:, None]
        if block.site is not None:
            return self.of_split(block, self.problem.placed[block.site, layer], d)
        if block.kind == "mlp":
            new = problem.adapter.mlp(layer, rows(reads.mlp_stream[layer] + d))
            old = rows(problem.clean.writes[f"m{layer}"].expand_as(d))
            after = rows(self.stream_after(layer).expand_as(d)) + new - old
            return self.effect(self.tail.from_layer(layer + 1, after))[:, None]
        read = problem.adapter.read(layer, rows(reads.attn_stream[layer] + d))
        before = rows(reads.attn_stream[layer].expand_as(d))
        effects = [
            self.effect(self.tail.from_heads(layer, before, self.patched_z(block, head, read)))
            for head in block.members
        ]
        return torch.stack(effects, 1)

    def of_split(
        self, block: Block, placed: Placed, d: Float[Tensor, "src batch pos d_model"]
    ) -> Float[Tensor, "src dest"]:
        """The effect of patching the edges to a dictionary's features, error node or skip term."""
        call = self.tail.calls[placed.layer]
        clean_stream = self.problem.clean.reads.into(placed)
        stream, patched = rows(clean_stream.expand_as(d)), rows(clean_stream + d)

        def effect(change: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "src"]:
            return self.effect(self.after_split(placed, stream, change.to(d.dtype)))

        read, new_read = placed.read(stream, call), placed.read(patched, call)
        if block.kind == "skip":
            return effect(placed.skip(new_read) - placed.skip(read))[:, None]
        clean, factor = placed.pre(read), placed.factor(read)

        def written(pre: Tensor, others: Tensor, factor: Tensor | None) -> Tensor:
            a = placed.gated(pre, lambda: others)
            return (a if factor is None else a * factor) @ placed.W_dec

        before = written(clean, read, factor)
        if block.kind == "error":  # the features that are not chosen compete with those that are
            change = placed.rest(patched, call) - placed.rest(stream, call)
            return effect(change + written(clean, new_read, factor) - before)[:, None]
        new, new_factor, effects = placed.pre(new_read), placed.factor(new_read), []
        for feature in block.members:
            i = list(placed.chosen).index(feature)
            own = _with_column(factor, new_factor, i, len(placed.chosen))
            pre = _with_column(clean, new, i, len(placed.chosen))
            assert pre is not None
            effects.append(effect(written(pre, read, own) - before))
        return torch.stack(effects, 1)

    def after_split(
        self, placed: Placed, stream: Float[Tensor, "row pos d_model"], change: Tensor
    ) -> Float[Tensor, "row vocab"]:
        """The logits when what a dictionary splits is changed, and its features read a stream."""
        layer, tail, copies = placed.layer, self.tail, len(stream) // len(self.tail.position)
        if placed.part == "a":
            out = self.problem.clean.reads.outputs[placed.name].detach().repeat(copies, 1, 1)
            return tail.from_layer(layer + 1, tail.add_layer(layer, stream, out + change))
        if placed.part == "m":
            after = self.stream_after(layer).repeat(copies, 1, 1)
            return tail.after("m", layer, after + change)
        return tail.after(placed.part, layer, stream + change)

    def patched_z(
        self, block: Block, head: int, read: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "row pos head d_head"]:
        """z of a layer when one of its heads reads another stream through one port."""
        adapter, layer, port = self.problem.adapter, block.layer, block.port
        assert layer is not None
        assert port is not None
        arch = adapter.architecture
        group = arch.n_heads // arch.n_kv_heads
        alone = port != "q" and block.kind == "head" and group > 1  # one head of a shared key
        column = head // group if alone else head
        clean = {p: self.clean_port(p, layer).repeat(len(read) // len(self.tail.position), 1, 1, 1)
                 for p in "qkv"}  # fmt: skip
        new = {**clean, port: clean[port].clone()}
        new[port][:, :, column] = adapter.projection(layer, port, [column])(read[None])[0]
        z = adapter.attend(layer, self.tail.calls[layer], **new)
        if alone:
            others = adapter.attend(layer, self.tail.calls[layer], **clean)
            z = torch.cat(
                [others[:, :, :head], z[:, :, head : head + 1], others[:, :, head + 1 :]], 2
            )
        return z

    def clean_port(self, port: str, layer: int) -> Float[Tensor, "batch pos head d_head"]:
        """A layer's queries, keys or values in the clean run, as the model shares them."""
        arch = self.problem.adapter.architecture
        kept = self.problem.adapter.by_head(getattr(self.problem.clean.reads, port)[layer]).detach()
        split = port != "q" and kept.shape[2] > arch.n_kv_heads
        return kept[:, :, :: arch.n_heads // arch.n_kv_heads] if split else kept

    def stream_after(self, layer: int) -> Float[Tensor, "batch pos d_model"]:
        """The stream that leaves a layer in the clean run."""
        reads = self.problem.clean.reads
        streams = (*reads.attn_stream, reads.final.detach())
        return streams[layer + 1]

    def effect(self, logits: Float[Tensor, "row vocab"]) -> Float[Tensor, "src"]:
        """The metric's change against the clean run, summed over the batch."""
        copies = len(logits) // len(self.clean_metric)
        value = self.problem.measure(logits, self.problem.targets.repeat(copies))
        return (value.unflatten(0, (copies, -1)) - self.clean_metric).double().sum(1)


def _with_column(
    clean: Float[Tensor, "row pos _"] | None,
    new: Float[Tensor, "row pos _"] | None,
    i: int,
    n: int,
) -> Float[Tensor, "row pos feature"] | None:
    """The clean values of n features, and the new one of feature i."""
    if clean is None or new is None:
        return None
    own = clean.expand(*clean.shape[:-1], n).clone()
    own[..., i] = new.expand_as(own)[..., i]
    return own


def rows(x: Float[Tensor, "src batch pos d_model"]) -> Float[Tensor, "row pos d_model"]:
    """One row for each patch of each example."""
    return x.flatten(0, 1)


def passes(graph: TensorGraph, **_: Any) -> Passes:
    """A part of a forward pass for every edge, beside the clean run."""
    return Passes(
        forward=1,
        gradient=0,
        graphs=1,
        points=0,
        products=0,
        vectors=1,
        tails=True,
        space=PATCH_BYTES,
        spaces=4,
    )


METHOD = Method(
    name="exact",
    passes=passes,
    score_batch=score_batch,
    reference="arXiv 2304.05969",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    levels=("edges",),
)
