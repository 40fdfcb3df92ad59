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
from functools import cached_property
from itertools import groupby

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.cache import Reads, Writes
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.norms import Norm

CHUNK_BYTES = {"cpu": 32 << 20, "other": 256 << 20}  # a processor's cache; a device's memory


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
    device = change.input.device
    pos = torch.arange(change.input.shape[1], device=lengths.device)
    tokens = (pos < lengths[:, None]).flatten().nonzero()[:, 0].to(device)
    total = torch.zeros(graph.n_src, graph.n_dest, dtype=torch.float64, device=device)
    for some in tokens.split(chunk or kernel.default_chunk()):
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
        rows, layer = d[start : start + len(block)], block.layer
        start += len(block)
        if layer is None:
            rows[0] = take(writes.input, some, dtype)
        elif block.kind == "mlp":
            rows[0] = take(writes.mlps[layer], some, dtype)
        else:
            chosen = _chosen(block, adapter.architecture.n_heads)
            z = take(writes.heads[layer], some, dtype)[:, chosen]
            W = adapter.W_write(layer)[chosen].to(dtype)
            torch.bmm(z.transpose(0, 1), W, out=rows)
    return d


def take(x: Tensor, some: Int64[Tensor, "token"], dtype: torch.dtype) -> Tensor:
    """Some tokens of a [batch, pos, ...] tensor."""
    return x.flatten(0, 1)[some].to(dtype)


def _chosen(block: Block, n: int) -> slice | list[int]:
    """An index of a block's members among n heads, which copies nothing where it is all."""
    return slice(None) if len(block) == n else list(block.members)


@dataclass(frozen=True)
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

    def default_chunk(self) -> int:
        """As many tokens as fit where the device multiplies fastest, at least one."""
        device = self.change.input.device.type
        width = (self.graph.n_src + self._widest) * self.adapter.architecture.d_model
        budget = CHUNK_BYTES.get(device, CHUNK_BYTES["other"])
        return max(1, budget // (width * self.dtype.itemsize))

    @cached_property
    def reach(self) -> tuple[tuple[int, tuple[Block, ...]], ...]:
        """The blocks of readers that see the same first writers, with how many they see."""

        def seen(block: Block) -> int:
            return int(torch.searchsorted(self.graph.src_depth, block.depth))

        return tuple((n, tuple(blocks)) for n, blocks in groupby(self.graph.readers, key=seen))

    @property
    def _widest(self) -> int:
        return max(sum(map(len, blocks)) for _, blocks in self.reach)

    def gradients_by_reach(
        self, some: Int64[Tensor, "token"]
    ) -> Iterator[tuple[int, slice, Float[Tensor, "dest token d_model"]]]:
        """g_v of the readers in runs that see the same first writers, with their ids.

        Each overwrites the one before.
        """
        d_model = self.adapter.architecture.d_model
        space = self.change.input.new_empty(self._widest, len(some), d_model, dtype=self.dtype)
        start = 0
        for seen, blocks in self.reach:
            filled = 0
            for block in blocks:
                self.gradient(block, some, out=space[filled : filled + len(block)])
                filled += len(block)
            yield seen, slice(start, start + filled), space[:filled]
            start += filled

    def gradient(
        self,
        block: Block,
        some: Int64[Tensor, "token"],
        out: Float[Tensor, "dest token d_model"],
    ) -> None:
        """Write g_v of one block of readers for some tokens to `out`."""
        layer = block.layer
        if layer is None:
            out[0] = self.take(self.grads.at["final", 0], some)
        elif block.kind == "mlp":
            out[0] = self.take(self.grads.at["mlp", layer], some)
            stream = self.reads.mlp_stream[layer]
            pull_through(self.adapter.mlp_norm(layer), self.take(stream, some), out)
        else:
            dx = self.take(self.grads.at[block.port or "", layer], some)
            W = self.reading_weights(block).to(self.dtype)
            dx = dx[:, _chosen(block, dx.shape[1])]
            torch.bmm(dx.transpose(0, 1), W.transpose(1, 2), out=out)
            stream = self.reads.attn_stream[layer]
            pull_through(self.adapter.attn_norm(layer), self.take(stream, some), out)

    def reading_weights(self, block: Block) -> Float[Tensor, "dest d_model d_head"]:
        """The projection of each reader of a block of queries, keys or values."""
        arch = self.adapter.architecture
        W = self.adapter.W_in(block.layer or 0, block.port or "")
        if block.kind == "head" and len(W) < arch.n_heads:  # a shared key, read apart
            W = W.repeat_interleave(arch.n_heads // len(W), 0)
        return W[_chosen(block, len(W))]

    def take(self, x: Tensor, some: Int64[Tensor, "token"]) -> Tensor:
        """Some tokens of a [batch, pos, ...] tensor, in the kernel's dtype."""
        return take(x, some, self.dtype)


def pull_through(
    norm: Norm | None,
    stream: Float[Tensor, "token d_model"],
    g: Float[Tensor, "dest token d_model"],
) -> None:
    """Turn cotangents behind a norm into those before it, in place: J_norm^T g."""
    if norm is None:
        return
    normed, scale = norm.normalise(stream)
    if norm.weight is not None:
        g.mul_(norm.weight)
    if norm.centres:
        g.sub_(g.mean(-1, keepdim=True))
    along = torch.einsum("rtd,td->rt", g, normed) / g.shape[-1]
    g.addcmul_(along[..., None], normed, value=-1).div_(scale)
