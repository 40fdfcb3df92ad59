"""Blocks: runs of writers or of readers of one kind at one depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.graph.architecture import Architecture
from sae_circuits.graph.nodes import Kind, Node, Part, Port

RESIDUAL: tuple[Part, ...] = ("pre", "mid", "post")  # where a dictionary replaces the stream itself
Key = tuple[Kind, int | None, Port | None, Part | None]


@dataclass(frozen=True, slots=True)
class Block:
    """A run of nodes of one kind at one depth, such as the query inputs of a layer's heads.

    `members` are the heads' or features' indices; a run of consecutive ones is held as a range,
    so that a whole dictionary takes no room.
    """

    kind: Kind
    depth: int
    layer: int | None = None
    port: Port | None = None
    members: Sequence[int] = range(1)
    site: Part | None = None

    def __post_init__(self) -> None:
        m = self.members
        if not isinstance(m, range):
            ends = range(m[0], m[-1] + 1) if len(m) else range(0)
            consecutive = len(m) == len(ends) and all(a == b for a, b in zip(m, ends, strict=True))
            object.__setattr__(self, "members", ends if consecutive else tuple(m))

    def __len__(self) -> int:
        return len(self.members)

    @property
    def key(self) -> Key:
        """What tells this block from the others of its graph."""
        return self.kind, self.layer, self.port, self.site

    @property
    def is_split(self) -> bool:
        """Whether its nodes are parts of what a dictionary splits."""
        return self.site is not None

    @property
    def is_bottleneck(self) -> bool:
        """Whether what was written before is seen after it only through its own nodes."""
        return self.site in RESIDUAL

    def node(self, i: int) -> Node:
        """The i-th node of the block."""
        numbered = self.kind in ("head", "kv", "feature")
        index = self.members[i] if numbered else None
        return Node(self.kind, self.layer, index, self.port, self.site)

    def nodes(self) -> Iterator[Node]:
        """All nodes, in order."""
        return (self.node(i) for i in range(len(self)))

    def index_of(self, node: Node) -> int | None:
        """Which node of the block this is, or None where it is of another."""
        if (node.kind, node.layer, node.port, node.site) != self.key or node.pos is not None:
            return None
        if self.kind not in ("head", "kv", "feature"):
            return 0 if node.index is None else None
        return self.members.index(node.index) if node.index in self.members else None


def depth_of(arch: Architecture, kind: Kind, layer: int | None, site: Part | None) -> int:
    """Where along the forward pass a node reads and writes.

        input 0;  of layer l: pre 4l+1, a 4l+2, mid 4l+3, m 4l+4, post 4l+5;  logits 4L+2

    A parallel block's MLP stands where its heads stand.
    """
    if kind == "input":
        return 0
    if kind == "logits" or layer is None:
        return 4 * arch.n_layers + 2
    part = site or ("m" if kind == "mlp" else "a")
    if part == "m" and arch.parallel:
        part = "a"
    return 4 * layer + {"pre": 1, "a": 2, "mid": 3, "m": 4, "post": 5}[part]


def starts_of(blocks: tuple[Block, ...]) -> dict[Key, tuple[int, Block]]:
    """Each block with the index of its first node, by its key."""
    starts = accumulate((len(block) for block in blocks), initial=0)
    return {block.key: (start, block) for start, block in zip(starts, blocks, strict=False)}


def find_node(node: Node, starts: Mapping[Key, tuple[int, Block]]) -> int | None:
    """The index of a node among the nodes of all blocks."""
    found = starts.get((node.kind, node.layer, node.port, node.site))
    i = found[1].index_of(node) if found else None
    return None if found is None or i is None else found[0] + i


def node_at(starts: Mapping[Key, tuple[int, Block]], i: int) -> Node:
    """The node of an index, made alone: the inverse of `find_node`."""
    for start, block in starts.values():
        if i < start + len(block):
            return block.node(i - start)
    raise IndexError(f"node {i} of a graph that has fewer")


def split_hint(node: Node, starts: Mapping[Key, tuple[int, Block]]) -> str:
    """What a node that is not in the graph may have been split into."""
    part = "m" if node.kind == "mlp" else "a" if node.kind == "head" else node.site
    found = starts.get(("feature", node.layer, None, part))
    return f", it is split into features, such as {found[1].node(0).name!r}" if found else ""


def depths_of(blocks: tuple[Block, ...]) -> Int64[Tensor, "node"]:
    """The depth of each node."""
    counts = torch.tensor([len(block) for block in blocks], dtype=torch.int64)
    depths = torch.tensor([block.depth for block in blocks], dtype=torch.int64)
    return depths.repeat_interleave(counts)
