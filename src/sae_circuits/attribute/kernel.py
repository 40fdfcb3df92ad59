"""The score kernel: every writer's change times every reader's gradient.

With d_u a writer's change in the stream and g_v the gradient at a reader's input, t over tokens,

    score(u, v) = sum_t d_u[t] . g_v[t]
    d_u = dz_u W_O[u]                       a head (an MLP, the input: d_u itself)
    g_v = J_norm^T (W_Q[v] dq_v)            a query reader; k and v alike; an MLP: J_norm^T dx

Both are expanded to the width of the stream for one chunk of tokens at a time, so that memory is
set by the chunk, and multiplied in one product for all readers that see the same writers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.cache import Reads, Writes
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter

CHUNK_BYTES = 64 << 20  # of expanded changes and gradients: near the size of a large cache


@dataclass(frozen=True, eq=False)
class Gradients:
    """The metric's gradient at what the readers made of the stream, in narrow form.

    By place: ("q", layer), ("k", layer), ("v", layer) of [batch, pos, head, d_head], and
    ("mlp", layer), ("final", 0) of [batch, pos, d_model].
    """

    at: Mapping[tuple[str, int], Tensor]


def score_edges(
    adapter: Adapter,
    graph: TensorGraph,
    change: Writes,
    gradients: Gradients,
    reads: Reads,
    lengths: Int64[Tensor, "batch"],
    *,
    chunk: int | None = None,
) -> Float[Tensor, "src dest"]:
    """Score all edges of a graph, summed over examples and over their real tokens.

    Args:
        change: what each writer would write instead, minus what it writes.
        gradients: of the summed metric, at the run whose streams `reads` holds.
        lengths: real tokens per example; the padding after them is left out.
        chunk: tokens expanded at a time; by default as many as fit in `CHUNK_BYTES`.

    Returns:
        Sums in float64; 0 where there is no edge.
    """
    kernel = _Kernel(adapter, graph, change, gradients, reads)
    width = (graph.n_src + _widest(graph)) * adapter.architecture.d_model
    chunk = chunk or max(1, CHUNK_BYTES // (width * kernel.dtype.itemsize))
    pos = torch.arange(change.input.shape[1], device=lengths.device)
    tokens = (pos < lengths[:, None]).flatten().nonzero()[:, 0].to(change.input.device)
    total = torch.zeros(graph.n_src, graph.n_dest, dtype=torch.float64, device=tokens.device)
    for some in tokens.split(chunk):
        d = expand_writes(adapter, graph, change, some, kernel.dtype)
        for seen, dests, g in kernel.gradients_by_reach(some):
            total[:seen, dests] += d[:seen].flatten(1) @ g.flatten(1).T
    return total


def expand_writes(
    adapter: Adapter,
    graph: TensorGraph,
    writes: Writes,
    some: Int64[Tensor, "token"],
    dtype: torch.dtype,
) -> Float[Tensor, "src token d_model"]:
    """What every writer of a graph puts into the stream, or its change, for some tokens."""
    d = writes.input.new_empty(graph.n_src, len(some), adapter.architecture.d_model, dtype=dtype)
    start = 0
    for block in graph.writers:
        rows = d[start : start + len(block)]
        start += len(block)
        if block.kind == "input":
            rows[0] = take(writes.input, some, dtype)
        elif block.kind == "mlp":
            rows[0] = take(writes.mlps[block.layer], some, dtype)
        else:
            heads = list(block.members)
            z = take(writes.heads[block.layer], some, dtype)[:, heads]
            torch.bmm(z.transpose(0, 1), adapter.W_write(block.layer)[heads].to(dtype), out=rows)
    return d


def take(x: Tensor, some: Int64[Tensor, "token"], dtype: torch.dtype) -> Tensor:
    """Some tokens of a [batch, pos, ...] tensor."""
    return x.flatten(0, 1)[some].to(dtype)


@dataclass(frozen=True, eq=False)
class _Kernel:
    adapter: Adapter
    graph: TensorGraph
    change: Writes
    grads: Gradients
    reads: Reads

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the products: the model's own, or float32 where that is narrower."""
        return torch.promote_types(self.change.input.dtype, torch.float32)

    def gradients_by_reach(
        self, some: Int64[Tensor, "token"]
    ) -> Iterator[tuple[int, slice, Float[Tensor, "dest token d_model"]]]:
        """g_v of the readers in runs that see the same first writers, with their ids."""
        start = 0
        for seen, blocks in groupby(self.graph.readers, key=self._seen):
            g = torch.cat([self.gradient(block, some) for block in blocks])
            yield seen, slice(start, start + len(g)), g
            start += len(g)

    def gradient(
        self, block: Block, some: Int64[Tensor, "token"]
    ) -> Float[Tensor, "dest token d_model"]:
        """g_v of one block of readers for some tokens."""
        layer = block.layer
        if block.kind == "logits":
            return self.take(self.grads.at["final", 0], some)[None]
        if block.kind == "mlp":
            g = self.take(self.grads.at["mlp", layer], some)[None]
            return _through_norm(
                self.adapter.mlp_norm(layer), self.reads.mlp_stream[layer], g, self.take, some
            )
        heads = list(block.members)
        W = self.adapter.W_in(layer, block.port)
        dx = self.take(self.grads.at[block.port, layer], some)
        if block.kind == "head" and len(W) < self.adapter.architecture.n_heads:
            W = W.repeat_interleave(self.adapter.architecture.n_heads // len(W), 0)
        g = torch.bmm(dx[:, heads].transpose(0, 1), W[heads].to(self.dtype).transpose(1, 2))
        return _through_norm(
            self.adapter.attn_norm(layer), self.reads.attn_stream[layer], g, self.take, some
        )

    def take(self, x: Tensor, some: Int64[Tensor, "token"]) -> Tensor:
        """Some tokens of a [batch, pos, ...] tensor, in the kernel's dtype."""
        return take(x, some, self.dtype)

    def _seen(self, block: Block) -> int:
        return int(torch.searchsorted(self.graph.src_depth, block.depth))


def _through_norm(norm, stream, g, take, some):
    """J_norm^T of cotangents g [dest, token, d_model] at the stream of the same tokens."""
    if norm is None:
        return g
    normed, scale = norm.normalise(take(stream, some))
    g = norm.centre(norm.gain(g)).div_(scale)
    along = torch.einsum("rtd,td->rt", g, normed).div_(g.shape[-1])
    return g.addcmul_(along[..., None], normed, value=-1)


def _widest(graph: TensorGraph) -> int:
    return max(
        sum(len(b) for b in blocks) for _, blocks in groupby(graph.readers, lambda b: b.depth)
    )
