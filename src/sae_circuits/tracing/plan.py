"""Which rows to compute together, and in which order.

A source's influence is known once all its destinations' is, and these stand at its own position or
a later one, in a later layer. So rows are taken from the last positions to the first, and within a
group of neighbouring positions from the deepest to the first layer. All rows of a group then walk
down together: a product has many rows, and few positions that no cotangent reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae_circuits.tracing.local import Local
from sae_circuits.tracing.nodes import Nodes
from sae_circuits.tracing.rows import entry_depth

TOKENS = 1024  # rows times positions that a group of positions has, at least, if memory allows


@dataclass(frozen=True, slots=True)
class Cost:
    """What a row of a block takes.

    Args:
        per_token: bytes for each position that it reaches: cotangents and heads.
        fixed: bytes for its effects.
    """

    per_token: int
    fixed: int

    @classmethod
    def of(cls, local: Local, n_sources: int) -> Cost:
        """Count the tensors of `direct_effects` and of what is done with a block."""
        arch, size = local.adapter.architecture, local.dtype.itemsize
        skips = any(layer.W_skip is not None for layer in local.layers)
        wide = arch.d_model * (2 + 2 * skips) + 2 * arch.n_heads * arch.d_head
        return cls(wide * size, n_sources * (3 * size + 24))

    def rows(self, memory: int, n_pos: int) -> int:
        """How many rows fit, at least one."""
        return max(1, memory // (self.per_token * n_pos + self.fixed))


def plan_blocks(
    local: Local, nodes: Nodes, keep: Bool[Tensor, "node"] | None, cost: Cost, memory: int
) -> list[Int64[Tensor, "row"]]:
    """The destinations of each block, in the order in which influence flows.

    Args:
        keep: which destinations to compute; all where it is None.
    """
    dest = nodes.is_dest if keep is None else nodes.is_dest & keep
    dest = dest.nonzero()[:, 0]
    group = _groups(nodes.pos[dest].tolist(), int(nodes.pos.max()) + 1, cost, memory)
    depth = entry_depth(local, nodes)[dest]
    order = torch.argsort(depth, descending=True, stable=True)
    number = torch.tensor(group, device=dest.device)[nodes.pos[dest]]
    order = order[number[order].argsort(stable=True)]
    dest, number = dest[order], number[order]
    blocks: list[Tensor] = []
    for some in torch.split(dest, torch.bincount(number).tolist()):
        if len(some):
            most = cost.rows(memory, int(nodes.pos[some].max()) + 1)
            blocks += some.split(most)
    return blocks


def _groups(pos: list[int], n_pos: int, cost: Cost, memory: int) -> list[int]:
    """The group of each position, counted from the last one."""
    counts = [0] * n_pos
    for p in pos:
        counts[p] += 1
    group, number, last, rows = [0] * n_pos, 0, n_pos - 1, 0
    for p in reversed(range(n_pos)):
        together = rows + counts[p]
        enough = rows * (last + 1) >= TOKENS
        if rows and (enough or together > cost.rows(memory, last + 1)):
            number, last, together = number + 1, p, counts[p]
        group[p], rows = number, together
    return group
