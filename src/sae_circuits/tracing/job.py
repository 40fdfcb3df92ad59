"""The rows of an attribution graph as a job: blocks of destinations, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae_circuits.models.adapter import Adapter
from sae_circuits.shards import Job, Means, Partial, Shard, fingerprint, run_shards
from sae_circuits.shards.job import MOST
from sae_circuits.tracing.local import Local
from sae_circuits.tracing.nodes import LOGIT, TOKEN, Nodes
from sae_circuits.tracing.plan import Cost, plan_blocks
from sae_circuits.tracing.rows import Block, direct_effects
from sae_circuits.tracing.sources import gather_sources

SHARE = 16  # of a budget, for the rows of a shard: they are held beside the block that is computed


@dataclass(frozen=True, eq=False)
class RowsJob(Job):
    """The direct effects on all features and logits, or on some, in blocks.

    Which rows stand together in a block hangs on the budget, and so does the order in which a
    product adds: workers have no say in it.

    Args:
        local: of the calling process, so that all workers hold the same constants.
        keep: the nodes between which direct effects are asked for; None for all.
        memory: bytes, half of them for a block that is computed.
        model_id: of the model.
    """

    model: Any
    local: Local
    nodes: Nodes
    keep: Bool[Tensor, "node"] | None
    memory: int
    model_id: str

    name = "trace"
    unit = "row"

    @classmethod
    def of(cls, local: Local, nodes: Nodes, keep: Tensor | None, memory: int) -> RowsJob:
        """With the model that was frozen."""
        adapter = local.adapter
        return cls(adapter.model, local, nodes, keep, memory, adapter.fingerprint)

    @property
    def said(self) -> dict[str, Any]:
        """All that decides the rows."""
        nodes, keep = self.nodes, self.keep
        active = self.local.active.values()
        return {
            "model": self.model_id,
            "prompt": nodes.index[nodes.kind == TOKEN].tolist(),
            "transcoders": [[a.dictionary.name, a.dictionary.fingerprint] for a in active],
            "logits": nodes.index[nodes.kind == LOGIT].tolist(),
            "nodes": fingerprint([nodes.kind, nodes.layer, nodes.pos, nodes.index]),
            "dtype": str(self.local.dtype),
            "memory": self.memory,
            "between": None if keep is None else fingerprint(keep),
        }

    def check(self) -> None:
        """See that a worker's copy of the model is the one that is meant."""
        Adapter.of(self.model).require_same(self.model_id)

    def describe(self, shard: Shard) -> str:
        """Which rows, and at which positions they read."""
        pos = self.nodes.pos.cpu()[torch.cat(shard.given)]
        return f"rows {shard.start} to {shard.stop - 1}, of positions {pos.min()} to {pos.max()}"

    @cached_property
    def src(self) -> Int64[Tensor, "source"]:
        """The nodes from which direct effects are asked for."""
        every = torch.arange(self.nodes.n_sources, device=self.nodes.kind.device)
        return every if self.keep is None else every[self.keep[: len(every)]]

    @cached_property
    def shards(self) -> list[Shard]:
        """Neighbouring blocks, in the order in which influence flows."""
        cost = Cost.of(self.local, len(self.src))
        blocks = plan_blocks(self.local, self.nodes, self.keep, cost, self.memory // 2)
        row = max(1, len(self.src)) * self.local.dtype.itemsize
        return _shards([block.cpu() for block in blocks], self.memory // SHARE // row)

    def open(self) -> Callable[[Shard], Partial]:
        """The direct effects on a shard's destinations, block by block."""
        local, nodes = self.local, self.nodes
        sources = gather_sources(local, nodes, self.keep)

        @torch.no_grad()
        def work(shard: Shard) -> Partial:
            every = (dest.to(nodes.kind.device) for dest in shard.given)
            found = [direct_effects(local, nodes, sources, dest) for dest in every]
            return {f"{i:05}": weight for i, weight in enumerate(found)}

        return work

    def blocks(self, means: Means) -> Iterator[Block]:
        """All blocks in order, wherever they are computed."""
        device = self.nodes.kind.device
        for shard, part in zip(self.shards, run_shards(self, self.shards, means), strict=True):
            for i, dest in enumerate(shard.given):
                weight = part[f"{i:05}"].to(device)
                yield Block.of(self.local, self.nodes, self.src, dest.to(device), weight)


def _shards(blocks: Sequence[Int64[Tensor, "_"]], most: int) -> list[Shard]:
    """Blocks in a row, about as many in each; several have no more rows than `most`.

    >>> some = [torch.arange(n) for n in (2, 2, 3, 1)]
    >>> _shards(some, 4)
    [Shard(index=0, start=0, stop=2), Shard(index=1, start=2, stop=4), ...]
    """
    together = -(-len(blocks) // MOST)
    found: list[Shard] = []
    own: list[Tensor] = []
    start = 0
    for i, block in enumerate(blocks):
        own.append(block)
        rows = sum(map(len, own))
        following = len(blocks[i + 1]) if i + 1 < len(blocks) else most
        if len(own) == together or rows + following > most:
            found.append(Shard(len(found), start, start + rows, tuple(own)))
            own, start = [], start + rows
    return found
