"""The score kernel: every writer's change times every reader's gradient.

With d_u a writer's change in the stream and g_v the gradient at a reader's input, t over tokens,

    score(u, v) = sum_t d_u[t] . g_v[t]
    d_u = dz_u W_O[u]                                          a head (an MLP, the input: itself)
    g_v = P (w * W_v s_v) - sum_p x_p c_pv                     see `gradients.py`

Both are expanded to the width of the stream for one chunk of tokens at a time, so that memory is
set by the chunk, and multiplied in few large products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.gradients import Gradients
from sae_circuits.cache import Writes
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter

CHUNK_BYTES = {"cpu": 32 << 20, "other": 256 << 20}  # a processor's cache; a device's memory
TOGETHER = 64  # readers in a product, at least: fewer multiply slowly


def score_edges(
    adapter: Adapter,
    graph: TensorGraph,
    change: Writes,
    gradients: Gradients,
    lengths: Int64[Tensor, "batch"],
    *,
    chunk: int | None = None,
) -> Float[Tensor, "src dest"]:
    """Score all edges of a graph, summed over examples and over their real tokens.

    Args:
        change: what each writer would write instead, minus what it writes.
        gradients: of the metric, summed over examples and over the points of a path.
        lengths: real tokens per example; the padding after them is left out.
        chunk: tokens expanded at a time; by default as many as fit in `CHUNK_BYTES`.

    Returns:
        Sums in float64; 0 where there is no edge.
    """
    kernel = _Kernel(adapter, graph, gradients)
    device, width = change.input.device, adapter.architecture.d_model
    pos = torch.arange(change.input.shape[1], device=lengths.device)
    tokens = (pos < lengths[:, None]).flatten().nonzero()[:, 0].to(device)
    total = torch.zeros(graph.n_src, graph.n_dest, dtype=torch.float64, device=device)
    for some in tokens.split(chunk or kernel.default_chunk(device.type)):
        # With writers innermost in memory, and g first, the products run about twice as fast.
        d = change.input.new_empty(len(some), width, graph.n_src, dtype=gradients.dtype)
        d = expand_writes(adapter, graph, change, some, out=d.permute(2, 0, 1))
        for seen, dests, g in kernel.gradients_by_reach(some):
            total[:seen, dests] += (g.flatten(1) @ d[:seen].flatten(1).T).T
    unseen = torch.arange(graph.n_src)[:, None] >= graph.n_seen
    return total.masked_fill_(unseen.to(device), 0)


def expand_writes(
    adapter: Adapter,
    graph: TensorGraph,
    writes: Writes,
    some: Int64[Tensor, "token"],
    out: Float[Tensor, "src token d_model"],
) -> Float[Tensor, "src token d_model"]:
    """Write what every writer of a graph puts into the stream for some tokens to `out`."""
    start = 0
    for block in graph.writers:
        rows, layer = out[start : start + len(block)], block.layer
        start += len(block)
        if layer is None:
            rows[0] = take(writes.input, some, out.dtype)
        elif block.kind == "mlp":
            rows[0] = take(writes.mlps[layer], some, out.dtype)
        else:
            chosen = _chosen(block, adapter.architecture.n_heads)
            z = take(writes.heads[layer], some, out.dtype)[:, chosen]
            W = adapter.W_write(layer)[chosen].to(out.dtype)
            rows.copy_(torch.bmm(z.transpose(0, 1), W))
    return out


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
    gradients: Gradients

    def default_chunk(self, device: str) -> int:
        """As many tokens as fit where the device multiplies fastest, at least one."""
        width = (self.graph.n_src + self._widest) * self.adapter.architecture.d_model
        budget = CHUNK_BYTES.get(device, CHUNK_BYTES["other"])
        return max(1, budget // (width * self.gradients.dtype.itemsize))

    @cached_property
    def reach(self) -> tuple[tuple[int, tuple[Block, ...]], ...]:
        """Runs of blocks of readers, with how many writers the last of them sees.

        Readers that see fewer join those above them until there are enough for a fast product.
        """

        def seen(block: Block) -> int:
            return int(torch.searchsorted(self.graph.src_depth, block.depth))

        runs: list[tuple[int, tuple[Block, ...]]] = []
        for n, equal in groupby(self.graph.readers, key=seen):
            blocks = tuple(equal)
            if runs and sum(map(len, runs[-1][1])) < TOGETHER:
                blocks = runs.pop()[1] + blocks
            runs.append((n, blocks))
        return tuple(runs)

    @property
    def _widest(self) -> int:
        return max(sum(map(len, blocks)) for _, blocks in self.reach)

    def gradients_by_reach(
        self, some: Int64[Tensor, "token"]
    ) -> Iterator[tuple[int, slice, Float[Tensor, "dest token d_model"]]]:
        """g_v of the readers, run by run, with how many writers these see, and with their ids.

        Each overwrites the one before.
        """
        size = self._widest, len(some), self.adapter.architecture.d_model
        space = torch.empty(size, dtype=self.gradients.dtype, device=some.device)
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
        layer, port = block.layer, block.port or "mlp"
        if layer is None:
            out[0] = self.take(self.gradients.at["final", 0], some)
            return
        s = self.take(self.gradients.at[port, layer], some)
        if block.kind == "mlp":
            chosen, norm = slice(None), self.adapter.mlp_norm(layer)
            out[0] = s
        else:
            chosen, norm = _chosen(block, s.shape[1]), self.adapter.attn_norm(layer)
            W = self.reading_weights(block).to(s.dtype)
            torch.bmm(s[:, chosen].transpose(0, 1), W.transpose(1, 2), out=out)
        if norm is None:
            return
        if norm.weight is not None:
            out.mul_(norm.weight)
        if norm.centres:
            out.sub_(out.mean(-1, keepdim=True))
        c = [self.take(c, some)[:, chosen] for c in self.gradients.along[port, layer]]
        x = [self.take(x, some) for x in self.gradients.normed[block.kind == "mlp", layer]]
        out.transpose(0, 1).baddbmm_(torch.stack(c, -1), torch.stack(x, 1), alpha=-1)

    def reading_weights(self, block: Block) -> Float[Tensor, "dest d_model d_head"]:
        """The projection of each reader of a block of queries, keys or values."""
        arch = self.adapter.architecture
        W = self.adapter.W_in(block.layer or 0, block.port or "")
        if block.kind == "head" and len(W) < arch.n_heads:  # a shared key, read apart
            W = W.repeat_interleave(arch.n_heads // len(W), 0)
        return W[_chosen(block, len(W))]

    def take(self, x: Tensor, some: Int64[Tensor, "token"]) -> Tensor:
        """Some tokens of a [batch, pos, ...] tensor, in the kernel's dtype."""
        return take(x, some, self.gradients.dtype)
