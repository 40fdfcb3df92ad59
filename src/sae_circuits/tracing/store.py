"""Rows of the matrix as often as they are asked for: held if there is room, else made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae_circuits.shards import Means, fingerprint
from sae_circuits.tracing.job import RowsJob
from sae_circuits.tracing.local import Local
from sae_circuits.tracing.nodes import Nodes
from sae_circuits.tracing.rows import Block


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a graph, or of a part of it, in blocks in the order in which influence flows.

    Args:
        keep: the nodes between which direct effects are asked for; None for all.
        memory: bytes, half of them for a block that is computed, half for rows that are held.
        means: by which they are computed, with a folder for those of each part of the graph.
    """

    local: Local
    nodes: Nodes
    keep: Bool[Tensor, "node"] | None
    memory: int
    means: Means
    held: list[Block] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether there is room to hold all rows."""
        is_dest = self.nodes.is_dest
        keep = torch.ones_like(is_dest) if self.keep is None else self.keep
        n_sources = int(keep[: self.nodes.n_sources].sum())
        size = int((is_dest & keep).sum()) * n_sources * self.local.dtype.itemsize
        return size <= self.memory // 2

    def __call__(self) -> Iterator[Block]:
        """Give all blocks."""
        if self.held:
            yield from self.held
            return
        job = RowsJob.of(self.local, self.nodes, self.keep, self.memory)
        made, fits = list[Block](), self.fits
        for block in job.blocks(self.means.within(self.name)):
            if fits:
                made.append(block)
            yield block
        self.held.extend(made)  # only once all are there

    @property
    def name(self) -> str:
        """Of the folder: another choice of nodes has another one, and all share the whole graph."""
        return "all" if self.keep is None else f"between-{fingerprint(self.keep)[:8]}"

    def among(self, kept: Int64[Tensor, "some"]) -> Rows:
        """The rows between some nodes only."""
        keep = torch.zeros(len(self.nodes), dtype=torch.bool, device=kept.device)
        keep[kept] = True
        held = [_part(block, keep) for block in self.held]
        held = [block for block in held if len(block.dest)]
        return Rows(self.local, self.nodes, keep, self.memory, self.means, held)


def _part(block: Block, keep: Bool[Tensor, "node"]) -> Block:
    """The rows and columns of a block that are kept."""
    rows, columns = keep[block.dest], keep[block.src]
    ends = rows.cumsum(0).tolist()
    stops = [ends[run.stop - 1] for run in block.runs]
    runs = [slice(a, b) for a, b in zip([0, *stops], stops, strict=False) if a < b]
    weight = block.weight[columns][:, rows]
    return Block(block.dest[rows], block.src[columns], tuple(runs), weight)
