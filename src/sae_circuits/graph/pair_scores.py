"""Scores of the edges between features, of which only those that are not 0 are held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.graph.blocks import Block, Key
from sae_circuits.graph.edges import Edges
from sae_circuits.graph.nodes import Edge, Node, parse_edge
from sae_circuits.graph.out import Saved
from sae_circuits.graph.scores import Provenance, Scores
from sae_circuits.graph.splits import FeatureSource
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class PairScores(Saved):
    """A score for every edge between two features that are active together.

    An edge's score is what it is in `Scores`. Destinations are features that read the stream. Of
    the edges between features, those that are not here score 0; or, where `is_whole` is False,
    the weaker ones have been left out.

    Args:
        ids: the edges' ids in the graph, ascending.
        values: one score each, in the metric's unit.

    Raises:
        GraphError: ids that are not ascending, or not of this graph; not one value for each.

    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> pairs = PairScores(graph, torch.tensor([2, 5]), torch.tensor([0.5, -2.0]))
    >>> pairs.top(1), pairs.top_n(1).ids.tolist(), len(pairs)
    ([('input->logits', -2.0)], [5], 2)
    """

    graph: TensorGraph
    ids: Int64[Tensor, "edge"]
    values: Float[Tensor, "edge"]
    provenance: Provenance = field(default_factory=Provenance)
    is_whole: bool = True

    def __post_init__(self) -> None:
        if self.ids.shape != self.values.shape:
            raise GraphError(f"{len(self.values):,} values do not fit {len(self.ids):,} edges")
        if not len(self.ids):
            return
        first, last = int(self.ids[0]), int(self.ids[-1])
        if first < 0 or last >= self.graph.n_edges:
            bad = first if first < 0 else last
            raise GraphError(f"{bad} is not an edge of {self.graph!r}: 0 to {self.graph.n_edges}")
        if not bool((self.ids[1:] > self.ids[:-1]).all()):
            raise GraphError("the ids of edges are not ascending: sort them, each once")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, edge: Edge | str) -> float:
        """The score of one edge between features, by value or by name.

        Raises:
            GraphError: an edge that is not between features, or that may have been left out.
        """
        edge = parse_edge(edge) if isinstance(edge, str) else edge
        edge_id = self.graph.edge_id(edge)
        at = int(torch.searchsorted(self.ids, edge_id))
        if at < len(self) and int(self.ids[at]) == edge_id:
            return float(self.values[at])
        if {edge.src.kind, edge.dest.kind} != {"feature"}:
            raise GraphError(f"{edge.name!r} does not join two features: sae_circuits.attribute")
        if not self.is_whole:
            raise GraphError(
                f"{edge.name!r} is not among the {len(self):,} strongest edges, which alone are "
                "held here: keep more of them"
            )
        return 0.0

    @property
    def edges(self) -> Edges:
        """The edges that are held, in the order of their ids, made when asked for."""
        return Edges(self.graph, self.ids.cpu())

    def order(self) -> Int64[Tensor, "edge"]:
        """Places in `ids` from the largest score by size to the smallest; ties in their order."""
        return self.values.abs().sort(descending=True, stable=True).indices

    def top_n(self, n: int) -> PairScores:
        """The n strongest edges: largest by size, ties by smaller id."""
        if n >= len(self):
            return self
        places = strongest(self.values.abs(), n)
        return replace(self, ids=self.ids[places], values=self.values[places], is_whole=False)

    def top(self, n: int) -> list[tuple[str, float]]:
        """The names and the scores of the n strongest edges, the strongest first."""
        few = self.top_n(n)
        places = few.order()
        names = [edge.name for edge in Edges(self.graph, few.ids[places].cpu())]
        return list(zip(names, few.values[places].tolist(), strict=True))

    def features(self, n: int) -> list[Node]:
        """The features at the ends of the n strongest edges: what `TensorGraph.restrict` takes."""
        few = self.top_n(n)
        edges = Edges(self.graph, few.ids[few.order()].cpu())
        return list(dict.fromkeys(node for edge in edges for node in (edge.src, edge.dest)))

    def among(self, features: Iterable[Node | str]) -> Scores:
        """The scores between some features alone, as those of every edge of a graph with these.

        So they can be pruned, drawn and compared as those of a circuit. Edges that do not join two
        features score 0, as do those that were left out here.

        Args:
            features: nodes or their names, such as `features(20)` gives.

        Raises:
            GraphError: a feature that the graph does not have.

        >>> import sae_circuits as sc
        >>> model, saes = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
        >>> pairs = sc.pair_connections(model, "post1", saes, sc.tasks.ioi(model, 8)).scores("m0")
        >>> few = pairs.among(pairs.features(10))
        >>> few.top(10) == pairs.top(10)
        True
        """
        small = self.graph.restrict(features)
        src, dest = (
            _moved(own, new)[ends]
            for own, new, ends in zip(
                (self.graph.src_starts, self.graph.dest_starts),
                (small.src_starts, small.dest_starts),
                self.graph.ends(self.ids.cpu()),
                strict=True,
            )
        )
        there = (src >= 0) & (dest >= 0)
        src, dest = src[there], dest[there]
        values = torch.zeros(small.n_edges, dtype=self.values.dtype)
        ids = small.offsets[dest] + src - small.seen[dest, 0]
        return Scores(small, values.index_put((ids,), self.values.cpu()[there]), self.provenance)

    def with_saes(self, saes: Sequence[FeatureSource]) -> PairScores:
        """The same scores of a graph with its dictionaries, which files do not hold.

        Raises:
            GraphError: other dictionaries than the graph was made with.
        """
        return replace(self, graph=self.graph.with_saes(saes))

    def to_pandas(self) -> pandas.DataFrame:
        """A table with columns `src`, `dest`, `score`, one row per edge, in the order of ids."""
        from sae_circuits.graph.tables import edges_table

        return edges_table(self.graph, self.ids, self.values)

    def __repr__(self) -> str:
        made = self.provenance
        what = ", ".join(x for x in (made.method, made.task, made.metric) if x)
        held = "edges" if self.is_whole else "strongest edges"
        return f"PairScores({what or 'no record'}; {len(self):,} {held}, {self.graph!r})"


def _moved(
    own: Mapping[Key, tuple[int, Block]], new: Mapping[Key, tuple[int, Block]]
) -> Int64[Tensor, "node"]:
    """Where each node of a graph stands in one with fewer features; -1 for those that it lacks."""
    moved = torch.full((sum(len(block) for _, block in own.values()),), -1)
    for key, (start, block) in new.items():
        first, whole = own[key]
        at = torch.searchsorted(
            torch.tensor(list(whole.members)), torch.tensor(list(block.members))
        )
        moved[first + at] = torch.arange(start, start + len(block))
    return moved


def strongest(size: Float[Tensor, "edge"], n: int) -> Int64[Tensor, "kept"]:
    """The places of the n largest, ascending; of equal ones the first."""
    if n < 1:
        raise GraphError(f"n={n}: keep at least one edge")
    if n >= len(size):
        return torch.arange(len(size), device=size.device)
    least = size.kthvalue(len(size) - n + 1).values
    above = size > least
    ties = (size == least).nonzero()[: n - int(above.sum()), 0]
    above[ties] = True
    return above.nonzero()[:, 0]
