"""What writes to the stream at one place: vectors at positions, multiplied with cotangents there.

    out[s, t] = v_s . g_t[pos_s]

Positions have different numbers of sources, so a product takes a run of neighbouring positions,
each filled up to the largest number in the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.tracing.local import Local
from sae_circuits.tracing.nodes import ERROR, FEATURE, TOKEN, Nodes

TILE_BYTES = 16 << 20  # vectors at a time
WASTE = 1.5  # a run of positions ends where filling up would exceed this factor


@dataclass(frozen=True, eq=False)
class Tile:
    """The sources of a run of neighbouring positions.

    Args:
        start: the first position.
        row: of each source the row of its vector, filled up with 0.
        place: where the real ones stand in the flattened product.
        col: where the product of each goes.
        ends: for each position, how many sources there are up to it.
    """

    start: int
    row: Int64[Tensor, "pos slot"]
    place: Int64[Tensor, "source"]
    col: Int64[Tensor, "source"]
    ends: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Sources whose vectors are rows of one matrix."""

    vectors: Float[Tensor, "some d_model"]
    tiles: tuple[Tile, ...]

    def add_to(self, out: Float[Tensor, "source row"], g: Float[Tensor, "row pos d_model"]) -> None:
        """Add every source's product with every cotangent."""
        n_pos = g.shape[1]
        for tile in self.tiles:
            width = min(len(tile.ends), n_pos - tile.start)
            if width <= 0:
                return  # positions that no cotangent has reached
            some = slice(tile.start, tile.start + width)
            v = self.vectors[tile.row[:width]].to(g.dtype)
            product = torch.bmm(v, g[:, some].permute(1, 2, 0)).flatten(0, 1)
            n = tile.ends[width - 1]
            out.index_add_(0, tile.col[:n], product[tile.place[:n]])


@dataclass(frozen=True, eq=False)
class Sources:
    """The sources of a graph, or some of them, by where they write.

    Args:
        node: of each source, its number.
        activation: what each vector is multiplied with.
        mlp: the groups that write to the MLP's output of each layer.
        input: the tokens.
    """

    node: Int64[Tensor, "source"]
    activation: Float[Tensor, "source"]
    mlp: tuple[tuple[Group, ...], ...]
    input: tuple[Group, ...]

    def __len__(self) -> int:
        return len(self.node)


def gather_sources(local: Local, nodes: Nodes, keep: Bool[Tensor, "node"] | None = None) -> Sources:
    """Gather the sources of a graph, or those that are kept."""
    node = torch.arange(nodes.n_sources, device=nodes.kind.device)
    node = node if keep is None else node[keep[: len(node)]]

    def tiles(kind: int, layer: int, vectors: Tensor, rows: str) -> tuple[Tile, ...]:
        col = ((nodes.kind[node] == kind) & (nodes.layer[node] == layer)).nonzero()[:, 0]
        of = node[col]
        return tuple(_tiles(nodes.pos[of], getattr(nodes, rows)[of], col, vectors))

    mlp: list[tuple[Group, ...]] = [()] * len(local.layers)
    for number, layer in enumerate(local.layers):
        if layer.error is not None:
            mlp[number] += (Group(layer.error, tiles(ERROR, number, layer.error, "pos")),)
        if number in local.active:
            d = local.active[number].dictionary
            every = tiles(FEATURE, number, d.W_dec, "index")
            for site, W in zip(d.writes, d.decoders, strict=True):
                mlp[site.layer] += (Group(W, every),)
    tokens = (Group(local.input, tiles(TOKEN, -1, local.input, "pos")),)
    return Sources(node, nodes.activation[node], tuple(mlp), tokens)


def _tiles(
    pos: Int64[Tensor, "source"],
    row: Int64[Tensor, "source"],
    col: Int64[Tensor, "source"],
    vectors: Float[Tensor, "some d_model"],
) -> Iterator[Tile]:
    """Cut sources, which are sorted by position, into tiles."""
    counts = torch.bincount(pos).tolist()
    most = max(1, TILE_BYTES // (vectors.shape[1] * vectors.dtype.itemsize))
    first = 0
    for start, stop in _runs(counts, most):
        slots, n = max(counts[start:stop]), sum(counts[start:stop])
        ends = torch.tensor(counts[start:stop], device=pos.device).cumsum(0)
        here = pos[first : first + n] - start
        before = ends - torch.tensor(counts[start:stop], device=pos.device)
        place = here * slots + torch.arange(n, device=pos.device) - before[here]
        rows = row.new_zeros((stop - start) * slots)
        rows[place] = row[first : first + n]
        tile = rows.view(stop - start, slots)
        yield Tile(start, tile, place, col[first : first + n], tuple(ends.tolist()))
        first += n


def _runs(counts: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Runs of positions that are filled up without much waste, none without a source.

    >>> list(_runs([100, 3, 4, 2, 0, 0, 3], most=1000))
    [(0, 1), (1, 4), (6, 7)]
    """
    start, widest, total = 0, 0, 0
    for at, count in enumerate(counts):
        wide, filled = max(widest, count), total + count
        padded = wide * (at + 1 - start)
        if total and (padded > WASTE * filled + 2 or padded > most):
            yield start, at
            start, wide, filled = at, count, count
        if not filled:
            start = at + 1
        widest, total = wide, filled
    if total:
        yield start, len(counts)
