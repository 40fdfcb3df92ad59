"""The score kernel: every writer's change times every reader's gradient.

With d_u a writer's change in the stream and g_v the gradient at a reader's input, t over tokens,

    score(u, v) = sum_t d_u[t] . g_v[t]
    d_u = dz_u W_O[u]                                          a head (an MLP, the input: itself)
    d_u = a_u W_dec[u]                                         a feature
    g_v = P (w * W_v s_v) - sum_p x_p c_pv                     see `gradients.py`

Vectors are expanded to the width of the stream for one chunk of tokens at a time, so that memory is
set by the chunk, and multiplied in few large products. Features never are: see `features.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.features import Ends, add_features
from sae_circuits.attribution.gradients import Gradients
from sae_circuits.attribution.products import wide_by_wide
from sae_circuits.attribution.readers import Reader
from sae_circuits.attribution.vjp import add_vjps
from sae_circuits.cache import Writes
from sae_circuits.cache.expand import expand_writes
from sae_circuits.costs.memory import SPACE
from sae_circuits.costs.products import runs_of
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed

MULTIPLIED = 5  # of a work space, one part of so many is multiplied at a time; the rest is held


def score_edges(
    adapter: Adapter,
    graph: TensorGraph,
    saes: Sequence[Placed],
    change: Writes,
    gradients: Gradients,
    tokens: Int64[Tensor, "token"],
    kept: dict[Block, Tensor] | None = None,
    space: int | None = None,
) -> Float[Tensor, "src dest"]:
    """Score all edges of a graph, summed over some tokens.

    Args:
        saes: the graph's dictionaries.
        change: what each writer would write instead, minus what it writes.
        gradients: of the metric, summed over examples and over the points of a path.
        tokens: which of the batch's, all examples in a row; padding is none of them.
        kept: the readers' weights, kept for other calls on the same model, where there are many.
        space: bytes in which vectors are expanded; by default as many as are fast.

    Returns:
        Sums in float64; 0 where there is no edge.
    """
    inputs = change["input"]
    total = torch.zeros(graph.n_src, graph.n_dest, dtype=torch.float64, device=inputs.device)
    if not graph.n_edges or not len(tokens):
        return total
    if space is None:
        space = SPACE.get(inputs.device.type, SPACE["other"])
    ends = Ends(adapter, graph, {p.name: p for p in saes}, change, gradients, tokens, kept, space)
    _add_wide(total, ends)
    add_features(total, ends)
    add_vjps(total, ends)
    return total.masked_fill_(~graph.has_edge.to(inputs.device), 0)


def _add_wide(total: Float[Tensor, "src dest"], ends: Ends) -> None:
    """Add the scores of all edges without a feature or a neuron at an end."""
    graph, adapter, tokens = ends.graph, ends.adapter, ends.tokens
    width, dtype, device = adapter.architecture.d_model, ends.gradients.dtype, total.device
    writers = tuple(block for block in graph.writers if not block.is_narrow)
    src, runs = _ids(graph.src_starts.values()).to(device), _runs(ends)
    if not len(src) or not runs:
        return
    widest = max(sum(map(len, blocks)) for _, blocks in runs)
    row = width * dtype.itemsize
    multiplied = ends.space // MULTIPLIED
    chunk = max(1, multiplied // (row * (len(src) + widest)))
    held = max(chunk, (ends.space - multiplied) // (row * len(src)))
    space = torch.empty(widest, min(chunk, len(tokens)), width, dtype=dtype, device=device)
    for many in tokens.split(held):
        # With writers innermost in memory, and g first, the products run about twice as fast.
        d = torch.empty(len(many), width, len(src), dtype=dtype, device=device).permute(2, 0, 1)
        for some, out in zip(many.split(chunk), d.split(chunk, 1), strict=True):
            expand_writes(adapter, writers, ends.saes, ends.change, some, out)
        for seen, blocks in runs:
            dest = _ids([graph.dest_starts[block.key] for block in blocks]).to(device)
            first, stop = (int((src < end).sum()) for end in (seen.start, seen.stop))
            readers = [Reader.of(adapter, ends.gradients, block, ends.kept) for block in blocks]
            for some, d_some in zip(many.split(chunk), d[first:stop].split(chunk, 1), strict=True):
                g = space[: len(dest), : len(some)]
                for reader, rows in zip(readers, g.split(list(map(len, blocks))), strict=True):
                    reader.write(some, out=rows)
                total[src[first:stop, None], dest] += wide_by_wide(d_some, g)


def _ids(starts: Iterable[tuple[int, Block]]) -> Int64[Tensor, "node"]:
    """The indices of the nodes of some blocks that are no features or neurons."""
    spans = [range(start, start + len(block)) for start, block in starts if not block.is_narrow]
    return torch.tensor([i for span in spans for i in span], dtype=torch.int64)


def _runs(ends: Ends) -> list[tuple[slice, tuple[Block, ...]]]:
    """Runs of blocks of vector readers, and the writers that they see between them."""
    graph = ends.graph
    return runs_of(graph, [b for b in graph.readers if not b.is_narrow and not ends.through(b)])
