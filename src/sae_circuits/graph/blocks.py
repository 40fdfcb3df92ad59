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
_NUMBERED: tuple[Kind, ...] = ("head", "kv", "feature", "neuron")
Key = tuple[Kind, int | None, Port | None, Part | None]


@dataclass(frozen=True, slots=True)
class Block:
    """A run of nodes of one kind at one depth, such as the query inputs of a layer's heads.

    `members` are the heads' or features' indices; a run of consecutive ones is held as a range,
    so that a whole dictionary takes no room. Neurons of a layer's heads are counted through all
    heads, `each` to a head.
    """

    kind: Kind
    depth: int
    layer: int | None = None
    port: Port | None = None
    members: Sequence[int] = range(1)
    site: Part | None = None
    each: int | None = None

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
        """Whether its nodes are parts of what a dictionary splits, or neurons."""
        return self.site is not None

    @property
    def is_narrow(self) -> bool:
        """Whether each node is one number a token times a direction: features and neurons."""
        return self.kind in ("feature", "neuron")

    @property
    def is_bottleneck(self) -> bool:
        """Whether what was written before is seen after it only through its own nodes."""
        return self.site in RESIDUAL

    def node(self, i: int) -> Node:
        """The i-th node of the block."""
        index, head = self.members[i] if self.kind in _NUMBERED else None, None
        if index is not None and self.each is not None:
            head, index = divmod(index, self.each)
        return Node(self.kind, self.layer, index, self.port, self.site, head=head)

    def nodes(self) -> Iterator[Node]:
        """All nodes, in order."""
        return (self.node(i) for i in range(len(self)))

    def index_of(self, node: Node) -> int | None:
        """Which node of the block this is, or None where it is of another."""
        if (node.kind, node.layer, node.port, node.site) != self.key or node.pos is not None:
            return None
        if self.kind not in _NUMBERED:
            return 0 if node.index is None else None
        member = self._member(node)
        return self.members.index(member) if member in self.members else None

    def _member(self, node: Node) -> int | None:
        """Which of all of its kind a node is; None where the layer has no such node."""
        if self.each is None or node.index is None:
            return node.index if node.head is None else None
        fits = node.head is not None and node.index < self.each
        return node.head * self.each + node.index if fits else None  # type: ignore[operator]


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
    for kind in ("feature", "neuron"):
        if found := starts.get((kind, node.layer, None, part)):
            return f", it is split into {kind}s, such as {found[1].node(0).name!r}"
    return ""


def depths_of(blocks: tuple[Block, ...]) -> Int64[Tensor, "node"]:
    """The depth of each node."""
    counts = torch.tensor([len(block) for block in blocks], dtype=torch.int64)
    depths = torch.tensor([block.depth for block in blocks], dtype=torch.int64)
    return depths.repeat_interleave(counts)
