"""The score kernel: every writer's change times every reader's gradient.

With d_u a writer's change in the stream and g_v the gradient at a reader's input, t over tokens,

    score(u, v) = sum_t d_u[t] . g_v[t]
    d_u = dz_u W_O[u]                                          a head (an MLP, the input: itself)
    g_v = P (w * W_v s_v) - sum_p x_p c_pv                     see `gradients.py`

Both are expanded to the width of the stream for one chunk of tokens at a time, so that memory is
set by the chunk, and multiplied in few large products.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.gradients import Gradients
from sae_circuits.cache import Writes
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.norms import Norm

CHUNK_BYTES = {"cpu": 32 << 20, "other": 256 << 20}  # multiplied at a time: a processor's cache
HELD_BYTES = {"cpu": 128 << 20, "other": 1 << 30}  # of writers' changes, for several such chunks
TOGETHER = 64  # readers in a product, at least: fewer multiply slowly


def score_edges(
    adapter: Adapter,
    graph: TensorGraph,
    change: Writes,
    gradients: Gradients,
    lengths: Int64[Tensor, "batch"],
) -> Float[Tensor, "src dest"]:
    """Score all edges of a graph, summed over examples and over their real tokens.

    Args:
        change: what each writer would write instead, minus what it writes.
        gradients: of the metric, summed over examples and over the points of a path.
        lengths: real tokens per example; the padding after them is left out.

    Returns:
        Sums in float64; 0 where there is no edge.
    """
    device, width = change.input.device, adapter.architecture.d_model
    total = torch.zeros(graph.n_src, graph.n_dest, dtype=torch.float64, device=device)
    if not graph.n_edges:
        return total
    runs = _runs(graph)
    widest = max(stop - start for _, start, stop, _ in runs)
    row = width * gradients.dtype.itemsize
    chunk = _tokens(CHUNK_BYTES, device, row * (graph.n_src + widest))
    held = max(chunk, _tokens(HELD_BYTES, device, row * graph.n_src))
    pos = torch.arange(change.input.shape[1], device=lengths.device)
    tokens = (pos < lengths[:, None]).flatten().nonzero()[:, 0].to(device)
    space = torch.empty(
        widest, min(chunk, len(tokens)), width, dtype=gradients.dtype, device=device
    )
    for many in tokens.split(held):
        # With writers innermost in memory, and g first, the products run about twice as fast.
        d = torch.empty(len(many), width, graph.n_src, dtype=gradients.dtype, device=device)
        d = d.permute(2, 0, 1)
        for some, out in zip(many.split(chunk), d.split(chunk, 1), strict=True):
            expand_writes(adapter, graph, change, some, out=out)
        for seen, start, stop, blocks in runs:
            readers = [_Reader.of(adapter, gradients, block) for block in blocks]
            for some, d_some in zip(many.split(chunk), d[:seen].split(chunk, 1), strict=True):
                g = space[: stop - start, : len(some)]
                for reader, rows in zip(readers, g.split(list(map(len, blocks))), strict=True):
                    reader.write(some, out=rows)
                total[:seen, start:stop] += (g.flatten(1) @ d_some.flatten(1).T).T
    unseen = torch.arange(graph.n_src)[:, None] >= graph.n_seen
    return total.masked_fill_(unseen.to(device), 0)


def _tokens(budget: dict[str, int], device: torch.device, row: int) -> int:
    """How many tokens of so many bytes fit a device's budget, at least one."""
    return max(1, budget.get(device.type, budget["other"]) // row)


def _runs(graph: TensorGraph) -> list[tuple[int, int, int, tuple[Block, ...]]]:
    """Runs of blocks of readers: how many writers the last of them sees, and their ids, from, to.

    Readers that see fewer join those above them until there are enough for a fast product.
    """

    def seen(block: Block) -> int:
        return int(torch.searchsorted(graph.src_depth, block.depth))

    runs: list[tuple[int, int, int, tuple[Block, ...]]] = []
    stop = 0
    for n, equal in groupby(graph.readers, key=seen):
        blocks, start = tuple(equal), stop
        stop += sum(map(len, blocks))
        if runs and runs[-1][2] - runs[-1][1] < TOGETHER:
            _, start, _, before = runs.pop()
            blocks = before + blocks
        runs.append((n, start, stop, blocks))
    return runs


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


@dataclass(frozen=True, eq=False)
class _Reader:
    """One block of readers, with P (w * W_v) made once for all chunks of tokens."""

    s: Tensor
    W: Float[Tensor, "dest d_head d_model"] | None
    norm: Norm | None
    chosen: slice | list[int]
    along: tuple[Tensor, ...] = ()
    normed: tuple[Float[Tensor, "batch pos d_model"], ...] = ()

    @classmethod
    def of(cls, adapter: Adapter, gradients: Gradients, block: Block) -> _Reader:
        """Prepare the readers of a block."""
        layer, place = block.layer, (block.port or "mlp", block.layer or 0)
        if layer is None:
            return cls(gradients.at["final", 0], None, None, slice(None))
        is_mlp, s, W = block.kind == "mlp", gradients.at[place], None
        norm = adapter.mlp_norm(layer) if is_mlp else adapter.attn_norm(layer)
        chosen: slice | list[int] = slice(None)
        if not is_mlp:
            chosen, W = _chosen(block, s.shape[2]), adapter.W_in(layer, place[0])
            if len(W) < s.shape[2]:  # a shared key, read apart
                W = W.repeat_interleave(s.shape[2] // len(W), 0)
            W = W[chosen].to(s.dtype).transpose(1, 2)
            W = (W if norm is None else norm.centre(norm.gain(W))).contiguous()
        if norm is None:
            return cls(s, W, norm, chosen)
        along, normed = gradients.along[place], gradients.normed[is_mlp, layer]
        return cls(s, W, norm, chosen, along, normed)

    def write(self, some: Int64[Tensor, "token"], out: Float[Tensor, "dest token d_model"]) -> None:
        """Write g_v for some tokens to `out`."""
        s = take(self.s, some, out.dtype)
        if self.W is not None:
            torch.bmm(s[:, self.chosen].transpose(0, 1), self.W, out=out)
        else:
            out[0] = s if self.norm is None else self.norm.centre(self.norm.gain(s))
        if self.norm is not None:
            c = [take(c, some, out.dtype)[:, self.chosen] for c in self.along]
            x = [take(x, some, out.dtype) for x in self.normed]
            out.transpose(0, 1).baddbmm_(torch.stack(c, -1), torch.stack(x, 1), alpha=-1)
