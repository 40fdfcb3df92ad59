"""Floating-point operations and bytes moved, counted before anything runs.

A product and a sum are two operations; only matrix products count. With T the tokens of a batch, D
the stream's width, F a forward pass, s and r the numbers of writers and readers of a product:

    F(T, p)   = T (2 weights + 4 layers p heads d_head) + 2 D vocab for each example of p tokens
    backward  = T (2 weights + 8 layers p heads d_head) + 2 D vocab for each example
    products  = sum 2 T D s r, and 2 T d_head D for each end that is a head

All are sums over examples, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sae_circuits.costs.passes import Passes
from sae_circuits.costs.products import runs_of
from sae_circuits.costs.shape import Shape
from sae_circuits.graph import Block, TensorGraph

DENSE = 0.2  # above this share of edges, streams are mixed of all writers


@dataclass(frozen=True, slots=True)
class Work:
    """What is computed and moved for one example.

    Args:
        flops: floating-point operations of matrix products.
        moved: bytes read and written, but for weights.
        loads: how often all weights are read, for each batch.
    """

    flops: float = 0
    moved: float = 0
    loads: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.moved + other.moved, self.loads + other.loads)

    def __rmul__(self, n: float) -> Work:
        return Work(n * self.flops, n * self.moved, n * self.loads)


def forward(shape: Shape, pos: int, features: int = 0) -> Work:
    """One run of the model, and what it makes of its features."""
    arch = shape.architecture
    tokens = 2 * arch.n_layers * shape.layer_weights + 4 * arch.n_layers * pos * shape.heads
    tokens += 2 * shape.width * features
    flops = pos * tokens + 2 * shape.width * arch.d_vocab
    return Work(flops, 2 * pos * shape.kept(pos), 1)


def gradient(shape: Shape, pos: int, features: int = 0) -> Work:
    """One run of the model and the pass back through it, over activations alone."""
    return forward(shape, pos, features) + backward(shape, pos, features)


def backward(shape: Shape, pos: int, features: int = 0) -> Work:
    """The pass back alone."""
    arch = shape.architecture
    tokens = 2 * arch.n_layers * shape.layer_weights + 8 * arch.n_layers * pos * shape.heads
    flops = pos * tokens + 2 * shape.width * arch.d_vocab
    return Work(flops, 4 * pos * shape.kept(pos), 1)


def attribution_work(
    shape: Shape, graph: TensorGraph, pos: int, passes: Passes, *, kind: str = "edges"
) -> Work:
    """Of scores of edges or nodes."""
    writing = sum(len(block) for block in graph.writers if block.is_narrow)
    found = passes.forward * forward(shape, pos, writing)
    if passes.graphs_of_gradients is None:
        found = found + passes.gradient * gradient(shape, pos, writing)
    else:  # several passes back through one run
        found = found + passes.graphs_of_gradients * forward(shape, pos, writing)
        found = found + passes.gradient * backward(shape, pos, writing)
    each = 2.0 * shape.architecture.n_layers * shape.heads * shape.width
    found = found + Work(passes.heads * pos * each)
    if passes.tails:
        found = found + _tails(shape, graph, pos)
    if not passes.products:
        return found
    per_product = passes.points
    if kind == "nodes":
        tokens = 2 * shape.width * (shape.architecture.n_layers * shape.heads + 2 * writing)
        return found + passes.products * Work(pos * tokens, pos * tokens / shape.width)
    reading = sum(len(block) for block in graph.readers if block.kind == "feature")
    shared = 4 * passes.gradient * pos * shape.width * reading  # gradients, shared out
    wide = _wide(shape, graph, pos, per_product)
    return found + Work(shared) + passes.products * (wide + _narrow(shape, graph, pos, per_product))


def _tails(shape: Shape, graph: TensorGraph, pos: int) -> Work:
    """A run from its reader on for every edge, and every writer's vector once."""
    arch, d = shape.architecture, shape.width
    layer = 2 * shape.layer_weights + 4 * pos * shape.heads
    mlp = 2 * (2 + shape.gated) * d * shape.hidden
    flops = pos * 2.0 * arch.n_layers * shape.heads * d
    for block in graph.readers:
        at = arch.n_layers if block.layer is None else block.layer
        own = 0 if block.layer is None else mlp
        if block.port is not None:  # the other ports are those of the clean run
            own = layer - 2 * d * (shape.heads + 2 * shape.keys - arch.d_head)
        tail = pos * (own + layer * max(0, arch.n_layers - at - 1)) + 2 * d * arch.d_vocab
        flops += seen_by(graph, block) * len(block) * tail
    return Work(flops)


def circuit_work(shape: Shape, graph: TensorGraph, pos: int, share: float) -> Work:
    """One circuit that is run, of a share of the edges, drawn evenly.

    A circuit of the best edges leaves more parts out, and costs less.
    """
    width, flops = shape.width, 0.0
    arch, seen = shape.architecture, {b.key: seen_by(graph, b) for b in graph.readers}
    for block in graph.readers:
        some = 1 - (1 - share) ** seen[block.key] if share < 1 else 1.0
        changed = some * len(block)
        mixed = changed * seen[block.key] * (1.0 if share > DENSE else share)
        if block.kind == "logits":
            flops += 2 * width * (seen[block.key] * share + arch.d_vocab)
            continue
        flops += 2 * pos * width * mixed
        if block.port is not None:
            flops += 2 * pos * width * changed * arch.d_head
        elif block.kind == "mlp":
            flops += 2 * pos * some * (2 + shape.gated) * width * shape.hidden
        elif block.kind == "feature":
            flops += 4 * pos * width * changed
    # Attention, and what heads write.
    flops += arch.n_layers * pos * (4 * pos * shape.heads + 2 * width * shape.heads)
    moved = 3 * pos * shape.sum_size * (width * graph.n_src + shape.reads)
    return Work(flops, moved, 1)


def circuits_work(
    shape: Shape, graph: TensorGraph, pos: int, shares: Sequence[float], *, each: int = 2
) -> Work:
    """Circuits of some shares of the edges, with the two runs that they share.

    Args:
        each: circuits of each share, such as a random one beside the best.
    """
    found = 2 * forward(shape, pos) + base_of(shape, pos)
    for share in shares:
        found = found + each * circuit_work(shape, graph, pos, share)
    return found


def base_of(shape: Shape, pos: int) -> Work:
    """What the replacement run's streams, queries, keys and values are made of."""
    each = 2 * shape.heads + 2 * shape.keys
    return Work(2 * pos * shape.width * shape.architecture.n_layers * each)


def seen_by(graph: TensorGraph, block: Block) -> int:
    """How many writers a reader of a block sees."""
    start, stop = graph.sees(block.depth)
    return stop - start


def _wide(shape: Shape, graph: TensorGraph, pos: int, points: int) -> Work:
    """Products of vectors: heads, MLPs, the input, error nodes and the logits."""
    d_head, token, numbers = shape.architecture.d_head, 0.0, 0.0
    for block in graph.writers:
        if block.kind == "head":
            token += 2 * len(block) * d_head * shape.width
    readers = [b for b in graph.readers if not b.is_narrow]
    for block in readers:
        if block.port is not None:
            token += 2 * len(block) * d_head * shape.width
        if block.port is not None or block.kind == "mlp":
            token += 2 * len(block) * points * shape.width
    wide = _wide_starts(graph)
    for seen, blocks in runs_of(graph, readers):
        n = sum(map(len, blocks))
        sources = sum(1 for at in wide if seen.start <= at < seen.stop)
        token += 2 * shape.width * sources * n
        numbers += shape.width * (sources + n)
    return Work(pos * token, pos * 2 * shape.sum_size * numbers)


def _wide_starts(graph: TensorGraph) -> list[int]:
    """The ids of writers that are no features or neurons."""
    return [
        start + i
        for start, block in graph.src_starts.values()
        if not block.is_narrow
        for i in range(len(block))
    ]


def _narrow(shape: Shape, graph: TensorGraph, pos: int, points: int) -> Work:
    """Products with a feature or a neuron at an end, as if no activation were 0."""
    d, flops = shape.width, 0.0
    for reader in graph.readers:
        first, stop = graph.sees(reader.depth)
        for start, writer in graph.src_starts.values():
            if not first <= start < stop or not (writer.is_narrow or reader.is_narrow):
                continue
            if not writer.is_narrow and writer.kind != "head":
                flops += 2 * pos * d * len(reader)
                continue
            into = reader.is_narrow or reader.port is not None
            a = len(writer) * (1 if writer.is_narrow else shape.architecture.d_head)
            b = len(reader) * (1 if reader.is_narrow else shape.architecture.d_head)
            flops += 2 * a * b * (pos + d) if into else 2 * pos * a * d
            if into and not reader.is_narrow:
                flops += points * 2 * pos * a * (d + len(reader))
    return Work(flops, 0, 0)
