"""One score per edge, with where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.graph.edges import Edges
from sae_circuits.graph.nodes import Edge, Node
from sae_circuits.graph.out import Saved
from sae_circuits.graph.splits import FeatureSource
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Provenance:
    """How scores or a report were made: enough to make them again.

    `task` and `model` are names; `task_id` and `model_id` are hashes of the prompts and of the
    weights' shapes and values, so that other data or another checkpoint is noticed.
    """

    method: str = ""
    model: str = ""
    task: str = ""
    metric: str = ""
    intervention: str = "corrupt"
    n_examples: int = 0
    seed: int | None = None
    version: str = ""
    task_id: str = ""
    model_id: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))


@dataclass(frozen=True, eq=False)
class Scores(Saved):
    """A score for every edge of a graph.

    It is the estimated change of the metric, in the metric's unit, when that edge alone is
    corrupted; the mean over examples. Negative: corrupting the edge lowers the metric.

    >>> import torch
    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> scores = Scores(graph, torch.arange(float(graph.n_edges)))
    >>> scores["a0.h0->m0"], (2 * scores + scores)["a0.h0->m0"]
    (4.0, 12.0)
    >>> scores.top(2)
    [('m0->logits', 7.0), ('a0.h0->logits', 6.0)]
    """

    graph: TensorGraph
    values: Float[Tensor, "edge"]
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if self.values.shape != (self.graph.n_edges,):
            raise GraphError(
                f"{tuple(self.values.shape)} values do not fit {self.graph!r}: one per edge"
            )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, edge: Edge | str) -> float:
        return float(self.values[self.graph.edge_id(edge)])

    def __add__(self, other: Scores) -> Scores:
        self.graph.require_same(other.graph, "the second scores")
        return replace(self, values=self.values + other.values)

    def __sub__(self, other: Scores) -> Scores:
        return self + -1 * other

    def __mul__(self, factor: float) -> Scores:
        return replace(self, values=self.values * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Scores:
        return self * (1 / divisor)

    def __neg__(self) -> Scores:
        return -1 * self

    def order(self, *, by: str = "abs") -> Int64[Tensor, "edge"]:
        """Edge ids from the first to the last; ties stay in the order of their ids.

        Args:
            by: "abs", largest size first; "help", those whose corruption lowers the metric most
                first; "hurt", those whose corruption raises it most first.

        Raises:
            GraphError: another `by`.
        """
        keys = {
            "abs": self.values.abs,
            "help": self.values.neg,
            "hurt": self.values.clone,
        }
        if by not in keys:
            raise GraphError(f"cannot order by {by!r}: one of 'abs', 'help', 'hurt'")
        return keys[by]().sort(descending=True, stable=True).indices

    def top(self, n: int, *, by: str = "abs") -> list[tuple[str, float]]:
        """The names and the scores of the first n edges in an order (see `order`)."""
        ids = self.order(by=by)[:n]
        names = [edge.name for edge in Edges(self.graph, ids.cpu())]
        return list(zip(names, self.values[ids].tolist(), strict=True))

    def dense(self) -> Float[Tensor, "src dest"]:
        """The scores as a matrix, 0 where there is no edge."""
        return self.graph.dense(self.values)

    def by_source(self) -> dict[Node, float]:
        """Each writer's scores summed over its readers: its node attribution."""
        return dict(zip(self.graph.src_nodes, self.dense().sum(1).tolist(), strict=True))

    def by_destination(self) -> dict[Node, float]:
        """Each reader's scores summed over the writers that it sees."""
        return dict(zip(self.graph.dest_nodes, self.dense().sum(0).tolist(), strict=True))

    def on(self, graph: TensorGraph) -> Scores:
        """The same scores on a subgraph.

        Raises:
            GraphError: the subgraph has an edge without a score.
        """
        ids = torch.tensor([self.graph.edge_id(edge) for edge in graph.edges], dtype=torch.int64)
        return replace(self, graph=graph, values=self.values[ids.to(self.values.device)])

    def with_saes(self, saes: Sequence[FeatureSource]) -> Scores:
        """The same scores of a graph with its dictionaries, which files do not hold.

        Raises:
            GraphError: other dictionaries than the graph was made with.
        """
        return replace(self, graph=self.graph.with_saes(saes))

    def to_pandas(self) -> pandas.DataFrame:
        """A table with columns `src`, `dest`, `score`, one row per edge, in the order of ids."""
        from sae_circuits.graph.tables import scores_table

        return scores_table(self)

    def __repr__(self) -> str:
        made = self.provenance
        what = ", ".join(x for x in (made.method, made.task, made.metric) if x)
        return f"Scores({what or 'no record'}; {self.graph!r})"


@dataclass(frozen=True, eq=False)
class NodeScores:
    """A score for every writer of a graph: the sum of the scores of the edges that leave it.

    >>> import torch
    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> nodes = NodeScores(graph, torch.tensor([0.5, -2.0, 1.0]))
    >>> nodes["a0.h0"], nodes.top(1)
    (-2.0, [('a0.h0', -2.0)])
    """

    graph: TensorGraph
    values: Float[Tensor, "src"]
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if self.values.shape != (self.graph.n_src,):
            raise GraphError(
                f"{tuple(self.values.shape)} values do not fit {self.graph!r}: one per writer"
            )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, node: Node | str) -> float:
        return float(self.values[self.graph.src_id(node)])

    def top(self, n: int) -> list[tuple[str, float]]:
        """The names and scores of the n writers with the largest scores by size."""
        ids = self.values.abs().sort(descending=True, stable=True).indices[:n].tolist()
        return [(self.graph.src_node(i).name, float(self.values[i])) for i in ids]

    def features(self, n: int, *, splits: Iterable[str] | None = None) -> list[Node]:
        """The n features or neurons of largest size of score: what `TensorGraph.restrict` takes.

        Args:
            splits: of these only, such as `["m3", "post0"]`.
        """
        wanted = None if splits is None else set(splits)
        candidates = torch.zeros(len(self.values), dtype=torch.bool)
        for start, block in self.graph.src_starts.values():
            if block.is_narrow and (wanted is None or f"{block.site}{block.layer}" in wanted):
                candidates[start : start + len(block)] = True
        size = self.values.abs().masked_fill(~candidates.to(self.values.device), -1)
        ids = size.sort(descending=True, stable=True).indices[:n]
        return [self.graph.src_node(i) for i in ids[size[ids] > 0].tolist()]

    def to_pandas(self) -> pandas.DataFrame:
        """A table with columns `node`, `score`, one row per writer, in the order of ids."""
        from sae_circuits.graph.tables import nodes_table

        return nodes_table(self)

    def __repr__(self) -> str:
        made = self.provenance
        what = ", ".join(x for x in (made.method, made.task, made.metric) if x)
        return f"NodeScores({what or 'no record'}; {self.graph!r})"
