"""The graph: blocks of writers and readers along the stream, and an index between edges and ids.

A reader at depth r sees a writer at depth w exactly when w < r <= cut(w), where cut(w) is the next
bottleneck after w: a dictionary that replaces the stream itself. With the writers sorted by depth,
each reader sees one interval of them, so the graph is two short tuples of blocks and two integers
per reader; edges are numbered reader by reader, and made as objects only on demand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.graph.architecture import Architecture
from sae_circuits.graph.blocks import (
    Block,
    Key,
    depths_of,
    find_node,
    node_at,
    split_hint,
    starts_of,
)
from sae_circuits.graph.describe import describe
from sae_circuits.graph.edges import Edges
from sae_circuits.graph.neurons import Asked, neuron_parts
from sae_circuits.graph.nodes import Edge, Node, Part, edge_of, parse_node
from sae_circuits.graph.records import SourceRecord
from sae_circuits.graph.splits import FeatureSource, Split, read_through, sources_of, splits_of

if TYPE_CHECKING:
    from sae_circuits.graph.networks import Network


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
    neurons: tuple[str, ...] = ()
    saes: tuple[FeatureSource, ...] = field(default=(), compare=False, repr=False)
    made_with: tuple[SourceRecord, ...] = field(default=(), compare=False, repr=False)

    # -- making ------------------------------------------------------------------------------

    @classmethod
    def from_model(
        cls,
        model: Any,
        *,
        saes: Sequence[FeatureSource] = (),
        neurons: Asked = False,
        split_kv: bool = False,
        through: bool = False,
    ) -> TensorGraph:
        """Describe the heads and MLPs of a model, or their neurons or features in their place.

        An SAE on `z`, `attn_out` or `mlp_out` splits what heads or an MLP write into features and
        an error node; a transcoder gives features that read the MLP's input as well; an SAE on the
        residual stream is a bottleneck, past which earlier writers are seen through its features
        and its error node only.

        Args:
            model: a TransformerLens model of either kind, or an `Architecture`.
            saes: dictionaries (see `load_saes`), at most one at a place.
            neurons: write by neuron: "mlp" for the hidden units of all MLPs, "heads" for the
                output coordinates of all heads, True for both, or parts of layers, such as
                `["m3", "a0"]`. What they leave of an MLP, its bias, is in an error node.
            split_kv: give each query head its own k and v reader where the model shares them;
                the split edges' scores add up to the shared one's.
            through: make the features of what heads or an MLP write readers too, each of which
                sees the stream through a copy of those heads or that MLP; else the heads and the
                MLP read for all their features.

        Raises:
            UnsupportedModel: see `Architecture.of`.
            DictionaryError: a dictionary of another model, layer or width.
            GraphError: two dictionaries, or one and neurons, at one place; a dictionary at a place
                that cannot be split; neurons of MLPs that are not there; what is no dictionary.
        """
        arch = Architecture.of(model)
        parts = neuron_parts(arch, neurons)
        sources = sources_of(arch, saes, parts)
        writers, readers = describe(arch, sources, split_kv=split_kv, through=through)
        return cls(arch, writers, readers, parts, tuple(saes))

    def subgraph(self, nodes: Iterable[Node | str]) -> TensorGraph:
        """Keep only the named nodes; a head without a port stands for all it reads and writes.

        Raises:
            GraphError: a node that this graph does not have.
        """
        from sae_circuits.graph.parts import subgraph

        return subgraph(self, nodes)

    def restrict(self, features: Iterable[Node | str] | Mapping[str, Sequence[int]]) -> TensorGraph:
        """Keep only some features or neurons; the others become a part of their error nodes.

        An error node is what is left beside the features of its graph, so that all sums over
        features and error node stay what they were.

        Args:
            features: nodes or their names, such as `["m3.f17", "m1.n4"]`; or ids by split, such
                as `{"m3": [17]}`, which leaves the splits that are not named as they are. Neurons
                of heads are counted through all heads of a layer.

        Raises:
            GraphError: a feature that this graph does not have.
        """
        from sae_circuits.graph.parts import restrict

        return restrict(self, features)

    def with_saes(self, saes: Sequence[FeatureSource]) -> TensorGraph:
        """The same graph with its dictionaries, which files do not hold.

        Raises:
            GraphError: dictionaries at other places, with fewer features than the graph has, or
                other ones than those that it was made with, where the file says which.
        """
        from sae_circuits.graph.parts import with_saes

        return with_saes(self, saes)

    # -- counting ----------------------------------------------------------------------------

    @cached_property
    def src_depth(self) -> Int64[Tensor, "src"]:
        """The depth of each writer, in ascending order."""
        return depths_of(self.writers)

    @cached_property
    def dest_depth(self) -> Int64[Tensor, "dest"]:
        """The depth of each reader, in ascending order."""
        return depths_of(self.readers)

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """The depths of the bottlenecks, ascending."""
        return tuple(sorted({b.depth for b in self.writers if b.is_bottleneck}))

    def sees(self, depth: int) -> tuple[int, int]:
        """The interval of writers that readers at a depth see: from, to."""
        above = [cut for cut in self.cuts if cut < depth]
        ends = torch.tensor([above[-1] if above else 0, depth])
        start, stop = torch.searchsorted(self.src_depth, ends).tolist()
        return start, stop

    @cached_property
    def seen(self) -> Int64[Tensor, "dest 2"]:
        """For each reader the interval of writers that it sees: from, to."""
        spans = [self.sees(block.depth) for block in self.readers]
        counts = torch.tensor([len(block) for block in self.readers], dtype=torch.int64)
        return torch.tensor(spans, dtype=torch.int64).reshape(-1, 2).repeat_interleave(counts, 0)

    @cached_property
    def offsets(self) -> Int64[Tensor, "dest_plus_1"]:
        """The id of each reader's first edge, and the number of edges at the end."""
        n_seen = self.seen[:, 1] - self.seen[:, 0]
        return torch.cat([torch.zeros(1, dtype=torch.int64), n_seen.cumsum(0)])

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
    def is_part(self) -> bool:
        """Whether nodes are missing, so that what it describes is not the whole model.

        Raises:
            GraphError: it has features and no dictionaries (see `splits`).
        """
        from sae_circuits.graph.parts import is_part

        return is_part(self)

    @property
    def splits_kv(self) -> bool:
        """Whether query heads that share a key and a value read them apart."""
        shared = self.architecture.n_kv_heads < self.architecture.n_heads
        return shared and any(b.kind == "head" and b.port in ("k", "v") for b in self.readers)

    @property
    def through(self) -> bool:
        """Whether features of what heads or an MLP write read the stream through them."""
        return read_through(self.readers, self.saes)

    # -- names and ids -----------------------------------------------------------------------

    @cached_property
    def src_nodes(self) -> tuple[Node, ...]:
        """The writers, in the order of their ids."""
        return tuple(chain.from_iterable(block.nodes() for block in self.writers))

    @cached_property
    def dest_nodes(self) -> tuple[Node, ...]:
        """The readers, in the order of their ids."""
        return tuple(chain.from_iterable(block.nodes() for block in self.readers))

    @cached_property
    def src_starts(self) -> Mapping[Key, tuple[int, Block]]:
        """Each block of writers with the index of its first, by its key."""
        return starts_of(self.writers)

    @cached_property
    def dest_starts(self) -> Mapping[Key, tuple[int, Block]]:
        """Each block of readers with the index of its first, by its key."""
        return starts_of(self.readers)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The parts of the model that write or read, along the forward pass."""
        depth = {
            block.node(i).component: block.depth
            for block in (*self.writers, *self.readers)
            for i in range(len(block))
        }
        return tuple(sorted(depth, key=lambda node: (depth[node], node.kind, node.index or 0)))

    @cached_property
    def splits(self) -> Mapping[tuple[Part, int], Split]:
        """The splits by part and layer, where the graph has its dictionaries.

        Raises:
            GraphError: it has features and no dictionaries, as when it was read from a file.
        """
        if self.lacks_saes:
            raise GraphError(
                f"{self!r} was read from a file, which holds no dictionaries: give them by "
                "graph.with_saes(load_saes(...))"
            )
        sources = sources_of(self.architecture, self.saes, self.neurons)
        return splits_of(self.architecture, sources, through=self.through)

    @property
    def lacks_saes(self) -> bool:
        """Whether it has features and no dictionaries, which files do not hold."""
        split = {f"{b.site}{b.layer}" for b in self.writers if b.is_split}
        return not self.saes and not split <= set(self.neurons)

    def sites(self) -> Iterator[tuple[slice, tuple[Block, ...]]]:
        """The writers that are made together, with their ids: a layer's heads, a split's parts."""
        start = 0
        for _, some in groupby(self.writers, lambda b: (b.depth, b.layer, b.site, b.kind == "mlp")):
            blocks = tuple(some)
            stop = start + sum(map(len, blocks))
            yield slice(start, stop), blocks
            start = stop

    def chosen(self, split: Split) -> Sequence[int]:
        """The ids of a split's features, or neurons, that are nodes of this graph."""
        key: Key = (split.kind, split.layer, None, split.part)
        found = self.src_starts.get(key) or self.dest_starts.get(key)
        return found[1].members if found else range(0)

    @cached_property
    def readers_of(self) -> tuple[tuple[int, ...], ...]:
        """For each writer, the readers through which its component sees the stream."""
        from sae_circuits.graph.parts import readers_of

        return readers_of(self)

    def src_id(self, node: Node | str) -> int:
        """The index of a writer given by value or by name.

        Raises:
            GraphError: the graph has no such writer.
        """
        node = parse_node(node) if isinstance(node, str) else node
        found = find_node(node, self.src_starts)
        if found is None:
            hint = split_hint(node, self.src_starts)
            raise GraphError(f"{node.name!r} does not write in {self!r}{hint}")
        return found

    def src_node(self, i: int) -> Node:
        """The writer of an index, made alone."""
        return node_at(self.src_starts, i)

    def edge_id(self, edge: Edge | str) -> int:
        """The id of an edge given by value or by name.

        Raises:
            GraphError: the graph has no such edge; the message says which end is missing, or
                that the destination does not see the source.
        """
        edge = edge_of(edge)
        src, dest = find_node(edge.src, self.src_starts), find_node(edge.dest, self.dest_starts)
        if src is None:
            reads = find_node(edge.src, self.dest_starts) is not None
            hint = split_hint(edge.src, self.src_starts) or (", it only reads" if reads else "")
            raise GraphError(f"{edge.name!r}: {edge.src.name!r} does not write in {self!r}{hint}")
        if dest is None:
            hint = ": name its port, as in 'a0.h1<q>'" if edge.dest.kind == "head" else ""
            hint = hint or split_hint(edge.dest, self.dest_starts)
            raise GraphError(f"{edge.name!r}: {edge.dest.name!r} does not read in {self!r}{hint}")
        start, stop = self.seen[dest].tolist()
        if not start <= src < stop:
            late = f"comes no later than {edge.src.name} and does not see it"
            cut = f"sees {edge.src.name} only through the features of the stream between them"
            raise GraphError(f"{edge.name!r}: {edge.dest.name} {late if src >= stop else cut}")
        return int(self.offsets[dest]) + src - start

    def ends(
        self, ids: Int64[Tensor, "edge"]
    ) -> tuple[Int64[Tensor, "edge"], Int64[Tensor, "edge"]]:
        """The writer's and the reader's index of each edge id."""
        dest = torch.searchsorted(self.offsets, ids, right=True) - 1
        return ids - self.offsets[dest] + self.seen[dest, 0], dest

    @cached_property
    def has_edge(self) -> Bool[Tensor, "src dest"]:
        """Which writers each reader sees."""
        src = torch.arange(self.n_src)[:, None]
        return (src >= self.seen[:, 0]) & (src < self.seen[:, 1])

    @cached_property
    def edges(self) -> Edges:
        """All edges in the order of their ids, made when asked for."""
        return Edges(self)

    @property
    def records(self) -> tuple[SourceRecord, ...]:
        """Which dictionaries it was made with, also where it was read from a file."""
        return tuple(map(SourceRecord.of, self.saes)) or self.made_with

    @property
    def has_errors(self) -> bool:
        """Whether dictionaries leave error nodes."""
        return any(block.kind == "error" for block in self.writers)

    @cached_property
    def error_edges(self) -> Bool[Tensor, "edge"]:
        """Which edges lead into or out of an error node."""
        writes = torch.cat([torch.full((len(b),), b.kind == "error") for b in self.writers])
        reads = torch.cat([torch.full((len(b),), b.kind == "error") for b in self.readers])
        return self.flat(writes[:, None] | reads)

    def dense(self, values: Tensor, fill: float | bool = 0) -> Tensor:
        """Spread one value per edge over a [src, dest] matrix; `fill` where there is no edge."""
        matrix = values.new_full((self.n_dest, self.n_src), fill)
        matrix[self.has_edge.T.to(values.device)] = values  # row by row: the order of the edge ids
        return matrix.T

    def flat(self, matrix: Tensor) -> Tensor:
        """Gather a [src, dest] matrix into one value per edge: the inverse of `dense`."""
        return matrix.T[self.has_edge.T.to(matrix.device)]

    def same_as(self, other: TensorGraph) -> bool:
        """Whether two graphs have the same nodes and edges, so that ids mean the same."""
        return self.writers == other.writers and self.readers == other.readers

    def require_same(self, other: TensorGraph, what: str) -> None:
        """Raise a `GraphError` unless the other graph numbers its edges as this one does."""
        if not self.same_as(other):
            raise GraphError(f"{what} belongs to another graph: {other!r} is not {self!r}")

    def to_networkx(self) -> Network:
        """Export as a networkx graph of components, one edge per port."""
        from sae_circuits.graph.networks import to_networkx

        return to_networkx(self.edges)

    def __repr__(self) -> str:
        return (
            f"TensorGraph({self.architecture.model!r}: {self.n_src:,} writers, "
            f"{self.n_dest:,} readers, {self.n_edges:,} edges)"
        )
