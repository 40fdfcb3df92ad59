"""Operations of what runs circuits to score edges: learned masks, searches, patched patterns.

With w and r the writers that a reader sees and the readers of its depth, D the stream's width and T
tokens, a run with a mask for every edge takes, beside the model's own products and their way back,

    3 * 2 T D w r

for the streams that readers get, for the slopes of the masks and for those of the writers. Where
streams do not fit `KEEP_BYTES` they are made twice, which is not counted.
"""

from __future__ import annotations

from sae_circuits.costs.operations import Work, base_of, forward, seen_by
from sae_circuits.costs.shape import Shape
from sae_circuits.graph import Block, TensorGraph

Site = tuple[int, float, float, float]  # depth; products of its streams, its own, those of heads


def masked_work(shape: Shape, graph: TensorGraph, pos: int, masks: float) -> Work:
    """Runs with a mask for every edge and the pass back, with the two runs that they share."""
    flops = 0.0
    for _, mixed, own, pairs in _sites(shape, graph, pos):
        flops += 3 * mixed + 2 * own + 3 * pairs
    moved = 6 * pos * shape.sum_size * (shape.width * graph.n_src + shape.reads)
    return 2 * forward(shape, pos) + base_of(shape, pos) + masks * Work(flops, moved, 2)


def search_work(shape: Shape, graph: TensorGraph, pos: int) -> Work:
    """At most: a run from its reader on for every edge, as if none had gone."""
    sites = _sites(shape, graph, pos)
    # What is not counted, such as the base under each reader's stream, is less than one more run.
    whole, flops = sum(sum(site[1:]) for site in sites), 0.0
    for reader in graph.readers:
        later = [site for site in sites if site[0] >= reader.depth]
        tail = sum(sum(site[1:]) for site in later) + 2 * pos * shape.width * graph.n_dest
        flops += len(reader) * seen_by(graph, reader) * tail
    return 2 * forward(shape, pos) + base_of(shape, pos) + Work(2 * whole + flops)


def patched_work(shape: Shape, graph: TensorGraph, pos: int, slopes: int) -> Work:
    """Patterns with one writer's change in queries, and in keys, of every layer after it.

    Args:
        slopes: gradients that each change of a pattern is multiplied with.
    """
    arch, flops = shape.architecture, 0.0
    heads = [start for start, block in graph.src_starts.values() if block.kind == "head"]
    for reader in graph.readers:
        if reader.port not in ("q", "k"):
            continue
        n = seen_by(graph, reader)
        read = 2 * shape.width * (shape.heads if reader.port == "q" else shape.keys)
        pairs = 2 * pos * (shape.heads + slopes * arch.n_heads)
        flops += pos * n * (read + pairs)
        if reader.port == "q":  # writers' vectors, which queries and keys share
            first, stop = graph.sees(reader.depth)
            before = arch.n_heads * sum(first <= start < stop for start in heads)
            flops += 2 * pos * before * arch.d_head * shape.width
    return Work(flops)


def _sites(shape: Shape, graph: TensorGraph, pos: int) -> list[Site]:
    """What every reader takes in a run of all edges."""
    width, arch = shape.width, shape.architecture
    found = [_site(shape, graph, pos, block) for block in graph.readers]
    for block in graph.readers:
        if block.port == "q":  # attention, and what heads write
            pairs = 4.0 * pos * pos * arch.n_heads * arch.d_head
            found.append((block.depth, 0.0, 2.0 * pos * width * shape.heads, pairs))
    return found


def _site(shape: Shape, graph: TensorGraph, pos: int, block: Block) -> Site:
    width, arch = shape.width, shape.architecture
    mixed = 2.0 * pos * width * len(block) * seen_by(graph, block)
    if block.kind == "logits":
        return block.depth, mixed, 2.0 * width * arch.d_vocab, 0.0
    if block.kind == "mlp":
        return block.depth, mixed, 2.0 * pos * (2 + shape.gated) * width * shape.hidden, 0.0
    return block.depth, mixed, 2.0 * pos * width * arch.d_head * len(block), 0.0
