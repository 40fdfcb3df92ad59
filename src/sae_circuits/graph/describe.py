"""The writers and readers of a model, as blocks along the forward pass."""

from __future__ import annotations

from collections.abc import Sequence

from sae_circuits.graph.architecture import Architecture
from sae_circuits.graph.blocks import Block, depth_of
from sae_circuits.graph.nodes import Kind, Part, Port
from sae_circuits.graph.splits import FeatureSource, splits_of


def describe(
    arch: Architecture,
    saes: Sequence[FeatureSource] = (),
    *,
    split_kv: bool = False,
    through: bool = False,
) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """See `TensorGraph.from_model`."""
    splits = splits_of(arch, saes, through=through)
    heads = tuple(range(arch.n_heads))
    shared = arch.n_kv_heads < arch.n_heads and not split_kv
    kv_kind: Kind = "kv" if shared else "head"
    kv_heads = tuple(range(arch.n_kv_heads)) if shared else heads
    writers, readers = [Block("input", 0)], []

    def add(part: Part, layer: int, reads: list[Block], writes: list[Block]) -> None:
        split = splits.get((part, layer))
        own = split.blocks(arch) if split else []
        readers.extend(own if split and split.reads_stream else reads)
        writers.extend(own or writes)

    def block(kind: Kind, layer: int, port: Port | None, members: Sequence[int]) -> Block:
        return Block(kind, depth_of(arch, kind, layer, None), layer, port, members)

    for layer in range(arch.n_layers):
        add("pre", layer, [], [])
        ports = [
            block("head", layer, "q", heads),
            block(kv_kind, layer, "k", kv_heads),
            block(kv_kind, layer, "v", kv_heads),
        ]
        add("a", layer, ports, [block("head", layer, None, heads)])
        add("mid", layer, [], [])
        if arch.has_mlps:
            mlp = [block("mlp", layer, None, range(1))]
            add("m", layer, mlp, mlp)
        add("post", layer, [], [])
    readers.append(Block("logits", depth_of(arch, "logits", None, None)))
    return tuple(writers), tuple(readers)
