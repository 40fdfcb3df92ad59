"""The graph: blocks of writers and readers along the stream, and an index between edges and ids.

A reader at depth r sees a writer at depth w exactly when w < r. With the writers sorted by depth,
each reader sees the first `n_seen` of them, so the graph is two short tuples of blocks and one
integer per reader; edges are numbered reader by reader, and made as objects only on demand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.graph.architecture import Architecture
from sae_circuits.graph.edges import Edges
from sae_circuits.graph.nodes import Edge, Kind, Node, Port, parse_edge, parse_node

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True, slots=True)
class Block:
    """A run of nodes of one kind at one depth, such as the query inputs of a layer's heads."""

    kind: Kind
    depth: int
    layer: int | None = None
    port: Port | None = None
    members: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def key(self) -> tuple[Kind, int | None, Port | None]:
        """What tells this block from the others of its graph."""
        return self.kind, self.layer, self.port

    def node(self, i: int) -> Node:
        """The i-th node of the block."""
        numbered = self.kind in ("head", "kv")
        return Node(self.kind, self.layer, self.members[i] if numbered else None, self.port)


@dataclass(frozen=True)
class TensorGraph:
    """All writers, all readers, and all edges between them, described by depths.

    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 2, 2, 8, 4, 10, 16))
    >>> graph
    TensorGraph('tiny': 4 writers, 8 readers, 13 edges)
    >>> graph.edges[0].name, graph.edge_id("m0->logits")
    ('input->a0.h0<q>', 12)
    """

    architecture: Architecture
    writers: tuple[Block, ...]
    readers: tuple[Block, ...]

    # -- making ------------------------------------------------------------------------------

    @classmethod
    def from_model(cls, model: Any, *, split_kv: bool = False) -> TensorGraph:
        """Describe the heads and MLPs of a model.

        Args:
            model: a TransformerLens model of either kind, or an `Architecture`.
            split_kv: give each query head its own k and v reader where the model shares them;
                the split edges' scores add up to the shared one's.

        Raises:
            UnsupportedModel: see `Architecture.of`.
        """
        arch = Architecture.of(model)
        heads = tuple(range(arch.n_heads))
        shared = arch.n_kv_heads < arch.n_heads and not split_kv
        kv_kind: Kind = "kv" if shared else "head"
        kv_heads = tuple(range(arch.n_kv_heads)) if shared else heads
        writers, readers = [Block("input", 0)], []
        for layer in range(arch.n_layers):
            attn = 2 * layer + 1
            mlp = attn if arch.parallel else attn + 1
            readers += [
                Block("head", attn, layer, "q", heads),
                Block(kv_kind, attn, layer, "k", kv_heads),
                Block(kv_kind, attn, layer, "v", kv_heads),
            ]
            writers.append(Block("head", attn, layer, None, heads))
            if arch.has_mlps:
                readers.append(Block("mlp", mlp, layer))
                writers.append(Block("mlp", mlp, layer))
        readers.append(Block("logits", 2 * arch.n_layers + 1))
        return cls(arch, tuple(writers), tuple(readers))

    def subgraph(self, nodes: Iterable[Node | str]) -> TensorGraph:
        """Keep only the named nodes; a head without a port stands for all it reads and writes.

        Raises:
            GraphError: a node that this graph does not have.
        """
        wanted = {parse_node(n) if isinstance(n, str) else n for n in nodes}
        known = {*self.src_nodes, *self.dest_nodes}
        if missing := wanted - known - {node.component for node in known}:
            raise GraphError(f"{min(n.name for n in missing)!r} is not a node of {self!r}")

        def kept(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
            chosen = []
            for block in blocks:
                members = tuple(
                    m
                    for m, node in zip(block.members, _nodes(block), strict=True)
                    if node in wanted or node.component in wanted
                )
                if members:
                    chosen.append(Block(block.kind, block.depth, block.layer, block.port, members))
            return tuple(chosen)

        return TensorGraph(self.architecture, kept(self.writers), kept(self.readers))

    # -- counting ----------------------------------------------------------------------------

    @cached_property
    def src_depth(self) -> Int64[Tensor, "src"]:
        """The depth of each writer, in ascending order."""
        return _depths(self.writers)

    @cached_property
    def dest_depth(self) -> Int64[Tensor, "dest"]:
        """The depth of each reader, in ascending order."""
        return _depths(self.readers)

    @cached_property
    def n_seen(self) -> Int64[Tensor, "dest"]:
        """How many writers each reader sees: the first that many."""
        return torch.searchsorted(self.src_depth, self.dest_depth)

    @cached_property
    def offsets(self) -> Int64[Tensor, "dest_plus_1"]:
        """The id of each reader's first edge, and the number of edges at the end."""
        return torch.cat([torch.zeros(1, dtype=torch.int64), self.n_seen.cumsum(0)])

    @property
    def n_edges(self) -> int:
        """How many edges the graph has."""
        return int(self.offsets[-1])

    @property
    def n_src(self) -> int:
        """How many writers the graph has."""
        return len(self.src_depth)

    @property
    def n_dest(self) -> int:
        """How many readers the graph has."""
        return len(self.dest_depth)

    @property
    def splits_kv(self) -> bool:
        """Whether query heads that share a key and a value read them apart."""
        shared = self.architecture.n_kv_heads < self.architecture.n_heads
        return shared and any(b.kind == "head" and b.port in ("k", "v") for b in self.readers)

    # -- names and ids -----------------------------------------------------------------------

    @cached_property
    def src_nodes(self) -> tuple[Node, ...]:
        """The writers, in the order of their ids."""
        return tuple(chain.from_iterable(_nodes(block) for block in self.writers))

    @cached_property
    def dest_nodes(self) -> tuple[Node, ...]:
        """The readers, in the order of their ids."""
        return tuple(chain.from_iterable(_nodes(block) for block in self.readers))

    @cached_property
    def components(self) -> tuple[Node, ...]:
        """The parts of the model that write or read, along the forward pass."""
        depth = {
            block.node(i).component: block.depth
            for block in (*self.writers, *self.readers)
            for i in range(len(block))
        }
        return tuple(sorted(depth, key=lambda node: (depth[node], node.kind, node.index or 0)))

    @cached_property
    def _src_index(self) -> dict[Node, int]:
        return {node: i for i, node in enumerate(self.src_nodes)}

    @cached_property
    def _dest_index(self) -> dict[Node, int]:
        return {node: i for i, node in enumerate(self.dest_nodes)}

    @cached_property
    def readers_of(self) -> tuple[tuple[int, ...], ...]:
        """For each writer, the readers through which its component sees the stream."""
        group = self.architecture.n_heads // self.architecture.n_kv_heads
        read_by: dict[Node, tuple[int, ...]] = {}
        for i, node in enumerate(self.dest_nodes):
            read_by[node.component] = (*read_by.get(node.component, ()), i)

        def readers(node: Node) -> tuple[int, ...]:
            own = read_by.get(node, ())
            if node.kind == "head" and node.index is not None:
                return own + read_by.get(Node("kv", node.layer, node.index // group), ())
            return own

        return tuple(readers(node) for node in self.src_nodes)

    def edge_id(self, edge: Edge | str) -> int:
        """The id of an edge given by value or by name.

        Raises:
            GraphError: the graph has no such edge; the message says which end is missing, or
                that the destination does not see the source.
        """
        edge = parse_edge(edge) if isinstance(edge, str) else edge
        src, dest = self._src_index.get(edge.src), self._dest_index.get(edge.dest)
        if src is None:
            hint = ", it only reads" if edge.src in self._dest_index else ""
            raise GraphError(f"{edge.name!r}: {edge.src.name!r} does not write in {self!r}{hint}")
        if dest is None:
            hint = ": name its port, as in 'a0.h1<q>'" if edge.dest.kind == "head" else ""
            raise GraphError(f"{edge.name!r}: {edge.dest.name!r} does not read in {self!r}{hint}")
        if src >= int(self.n_seen[dest]):
            raise GraphError(
                f"{edge.name!r}: {edge.dest.name} comes no later than {edge.src.name} and does "
                "not see it"
            )
        return int(self.offsets[dest]) + src

    def ends(
        self, ids: Int64[Tensor, "edge"]
    ) -> tuple[Int64[Tensor, "edge"], Int64[Tensor, "edge"]]:
        """The writer's and the reader's index of each edge id."""
        dest = torch.searchsorted(self.offsets, ids, right=True) - 1
        return ids - self.offsets[dest], dest

    @cached_property
    def edges(self) -> Edges:
        """All edges in the order of their ids, made when asked for."""
        return Edges(self)

    def dense(self, values: Tensor, fill: float | bool = 0) -> Tensor:
        """Spread one value per edge over a [src, dest] matrix; `fill` where there is no edge."""
        seen = torch.arange(self.n_src)[None, :] < self.n_seen[:, None]
        matrix = values.new_full((self.n_dest, self.n_src), fill)
        matrix[seen.to(values.device)] = values  # row by row: the order of the edge ids
        return matrix.T

    def flat(self, matrix: Tensor) -> Tensor:
        """Gather a [src, dest] matrix into one value per edge: the inverse of `dense`."""
        seen = torch.arange(self.n_src)[None, :] < self.n_seen[:, None]
        return matrix.T[seen.to(matrix.device)]

    def same_as(self, other: TensorGraph) -> bool:
        """Whether two graphs have the same nodes and edges, so that ids mean the same."""
        return self.writers == other.writers and self.readers == other.readers

    def require_same(self, other: TensorGraph, what: str) -> None:
        """Raise a `GraphError` unless the other graph numbers its edges as this one does."""
        if not self.same_as(other):
            raise GraphError(f"{what} belongs to another graph: {other!r} is not {self!r}")

    def to_networkx(self) -> networkx.MultiDiGraph:
        """Export as a networkx graph of components, one edge per port."""
        from sae_circuits.graph.networks import to_networkx

        return to_networkx(self.edges)

    def __repr__(self) -> str:
        return (
            f"TensorGraph({self.architecture.model!r}: {self.n_src:,} writers, "
            f"{self.n_dest:,} readers, {self.n_edges:,} edges)"
        )


def _nodes(block: Block) -> Iterator[Node]:
    return (block.node(i) for i in range(len(block)))


def _depths(blocks: tuple[Block, ...]) -> Int64[Tensor, "node"]:
    counts = torch.tensor([len(block) for block in blocks], dtype=torch.int64)
    depths = torch.tensor([block.depth for block in blocks], dtype=torch.int64)
    return depths.repeat_interleave(counts)
