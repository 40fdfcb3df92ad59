"""The score kernel: every writer's change times every reader's gradient.

With d_u a writer's change in the stream and g_v the gradient at a reader's input, t over tokens,

    score(u, v) = sum_t d_u[t] . g_v[t]
    d_u = dz_u W_O[u]                                          a head (an MLP, the input: itself)
    d_u = a_u W_dec[u]                                         a feature
    g_v = P (w * W_v s_v) - sum_p x_p c_pv                     see `gradients.py`

Vectors are expanded to the width of the stream for one chunk of tokens at a time, so that memory is
set by the chunk, and multiplied in few large products. Features never are: their products sum over
tokens first (see `products.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.gradients import Gradients
from sae_circuits.attribution.products import narrow_by_narrow, narrow_by_wide, wide_by_wide
from sae_circuits.attribution.readers import Reader
from sae_circuits.cache import Writes
from sae_circuits.cache.expand import expand_writes, take
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed

CHUNK_BYTES = {"cpu": 32 << 20, "other": 256 << 20}  # multiplied at a time: a processor's cache
HELD_BYTES = {"cpu": 128 << 20, "other": 1 << 30}  # of writers' changes, for several such chunks
TOGETHER = 64  # readers in a product, at least: fewer multiply slowly


def score_edges(
    adapter: Adapter,
    graph: TensorGraph,
    saes: Sequence[Placed],
    change: Writes,
    gradients: Gradients,
    lengths: Int64[Tensor, "batch"],
) -> Float[Tensor, "src dest"]:
    """Score all edges of a graph, summed over examples and over their real tokens.

    Args:
        saes: the graph's dictionaries.
        change: what each writer would write instead, minus what it writes.
        gradients: of the metric, summed over examples and over the points of a path.
        lengths: real tokens per example; the padding after them is left out.

    Returns:
        Sums in float64; 0 where there is no edge.
    """
    inputs = change["input"]
    total = torch.zeros(graph.n_src, graph.n_dest, dtype=torch.float64, device=inputs.device)
    if not graph.n_edges:
        return total
    pos = torch.arange(inputs.shape[1], device=lengths.device)
    tokens = (pos < lengths[:, None]).flatten().nonzero()[:, 0].to(inputs.device)
    ends = _Ends.of(adapter, graph, {p.name: p for p in saes}, change, gradients, tokens)
    ends.add_wide(total)
    for source in ends.sources:
        for dest in ends.dests:
            if graph.sees(dest.depth)[0] < source.rows.stop and source.depth < dest.depth:
                total[source.rows, dest.rows] = _between_features(source, dest, tokens)
    return total.masked_fill_(~graph.has_edge.to(inputs.device), 0)


def _between_features(
    source: _Source, dest: _Dest, tokens: Int64[Tensor, "token"]
) -> Float[Tensor, "src dest"]:
    """`(sum_t a_u b_v) (W_u . W_v)`, less what goes through the norm's scale."""
    score = narrow_by_narrow(source.a, dest.b) * (source.W @ dest.W.T)
    for x, c in zip(dest.normed, dest.along, strict=True):
        along = take(x, tokens, source.a.dtype) @ source.W.T
        score -= narrow_by_narrow(source.a * along, c)
    return score.double()


@dataclass(frozen=True, eq=False)
class _Source:
    """The features of a dictionary as writers: coefficients and directions."""

    rows: slice
    depth: int
    a: Float[Tensor, "token feature"]
    W: Float[Tensor, "feature d_model"]


@dataclass(frozen=True, eq=False)
class _Dest:
    """The features of a dictionary as readers: gradients and directions, and the norm's part."""

    rows: slice
    depth: int
    b: Float[Tensor, "token feature"]
    W: Float[Tensor, "feature d_model"]
    along: tuple[Float[Tensor, "token feature"], ...]
    normed: tuple[Float[Tensor, "batch pos d_model"], ...]


@dataclass(frozen=True, eq=False)
class _Ends:
    """Both ends of all edges of a graph: vectors to be expanded, and features."""

    adapter: Adapter
    graph: TensorGraph
    saes: Mapping[str, Placed]
    change: Writes
    gradients: Gradients
    tokens: Int64[Tensor, "token"]
    sources: tuple[_Source, ...]
    dests: tuple[_Dest, ...]

    @classmethod
    def of(
        cls,
        adapter: Adapter,
        graph: TensorGraph,
        saes: Mapping[str, Placed],
        change: Writes,
        gradients: Gradients,
        tokens: Int64[Tensor, "token"],
    ) -> _Ends:
        """Take the features' scalars, for real tokens only."""
        dtype, sources, dests = gradients.dtype, [], []
        for start, block in graph.src_starts.values():
            if block.kind == "feature":
                placed = saes[f"{block.site}{block.layer}"]
                a = take(change[f"{placed.name}.f"], tokens, dtype)
                rows = slice(start, start + len(block))
                sources.append(_Source(rows, block.depth, a, placed.W_dec.to(dtype)))
        for start, block in graph.dest_starts.values():
            if block.kind == "feature":
                placed = saes[f"{block.site}{block.layer}"]
                place = f"{block.site}.f", placed.layer
                b = take(gradients.at[place], tokens, dtype)
                along = tuple(take(c, tokens, dtype) for c in gradients.along.get(place, ()))
                normed = gradients.normed[True, placed.layer] if along else ()
                rows = slice(start, start + len(block))
                W = placed.W_read.to(dtype)
                dests.append(_Dest(rows, block.depth, b, W, along, normed))
        return cls(adapter, graph, saes, change, gradients, tokens, tuple(sources), tuple(dests))

    def add_wide(self, total: Float[Tensor, "src dest"]) -> None:
        """Add the scores of all edges with a vector at one end or at both."""
        graph, width = self.graph, self.adapter.architecture.d_model
        dtype, device = self.gradients.dtype, total.device
        writers = tuple(block for block in graph.writers if block.kind != "feature")
        src = _ids(graph.src_starts.values()).to(device)
        runs = _runs(graph)
        widest = max((sum(map(len, blocks)) for _, blocks in runs), default=0)
        row = width * dtype.itemsize
        chunk = _tokens(CHUNK_BYTES, device, row * (len(src) + widest))
        held = max(chunk, _tokens(HELD_BYTES, device, row * len(src)))
        space = torch.empty(widest, min(chunk, len(self.tokens)), width, dtype=dtype, device=device)
        for at in torch.arange(len(self.tokens), device=device).split(held):
            # With writers innermost in memory, and g first, the products run about twice as fast.
            d = torch.empty(len(at), width, len(src), dtype=dtype, device=device).permute(2, 0, 1)
            for some, out in zip(at.split(chunk), d.split(chunk, 1), strict=True):
                expand_writes(self.adapter, writers, self.saes, self.change, self.tokens[some], out)
            for dest in self.dests:
                self._add_wide_to_features(total, src, d, dest, at)
            for seen, blocks in runs:
                ids = _ids([graph.dest_starts[block.key] for block in blocks]).to(device)
                n_wide = int((src < seen.stop).sum())
                first = int((src < seen.start).sum())
                readers = [Reader.of(self.adapter, self.gradients, block) for block in blocks]
                for some, d_some in zip(at.split(chunk), d.split(chunk, 1), strict=True):
                    g = space[: len(ids), : len(some)]
                    for reader, rows in zip(readers, g.split(list(map(len, blocks))), strict=True):
                        reader.write(self.tokens[some], out=rows)
                    total[src[first:n_wide, None], ids] += wide_by_wide(d_some[first:n_wide], g)
                    for source in self.sources:
                        if seen.start < source.rows.stop and source.rows.start < seen.stop:
                            scores = narrow_by_wide(source.a[some], source.W, g)
                            total[source.rows][:, ids] += scores

    def _add_wide_to_features(
        self,
        total: Float[Tensor, "src dest"],
        src: Int64[Tensor, "wide"],
        d: Float[Tensor, "wide token d_model"],
        dest: _Dest,
        at: Int64[Tensor, "token"],
    ) -> None:
        """Add the scores of the edges from vectors to the features of a dictionary."""
        start, stop = (int((src < end).sum()) for end in self.graph.sees(dest.depth))
        if start == stop:
            return
        d = d[start:stop]
        score = narrow_by_wide(dest.b[at], dest.W, d).T
        for x, c in zip(dest.normed, dest.along, strict=True):
            along = torch.einsum("utd,td->ut", d, take(x, self.tokens[at], d.dtype))
            score = score - along @ c[at]
        total[src[start:stop], dest.rows] += score


def _ids(starts: Iterable[tuple[int, Block]]) -> Int64[Tensor, "node"]:
    """The indices of the nodes of some blocks that are no features."""
    spans = [range(start, start + len(block)) for start, block in starts if block.kind != "feature"]
    return torch.tensor([i for span in spans for i in span], dtype=torch.int64)


def _tokens(budget: dict[str, int], device: torch.device, row: int) -> int:
    """How many tokens of so many bytes fit a device's budget, at least one."""
    return max(1, budget.get(device.type, budget["other"]) // row)


def _runs(graph: TensorGraph) -> list[tuple[slice, tuple[Block, ...]]]:
    """Runs of blocks of vector readers, and the writers that they see between them.

    Readers that see fewer join those above them until there are enough for a fast product.
    """
    runs: list[tuple[slice, tuple[Block, ...]]] = []
    wide = [block for block in graph.readers if block.kind != "feature"]
    for depth, equal in groupby(wide, key=lambda block: block.depth):
        (start, stop), blocks = graph.sees(depth), tuple(equal)
        if runs and sum(map(len, runs[-1][1])) < TOGETHER:
            before, first = runs.pop()
            start, blocks = min(start, before.start), first + blocks
        runs.append((slice(start, stop), blocks))
    return runs
