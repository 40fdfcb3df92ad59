"""An attribution graph: who made a model say what it said, on one prompt, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.graph.nodes import Edge, Node, parse_edge
from sae_circuits.graph.out import Drawn
from sae_circuits.graph.scores import Provenance


@dataclass(frozen=True, eq=False)
class AttributionGraph(Drawn):
    """The direct effects between tokens, active features, error nodes and logits of one prompt.

    An edge's weight is its source's activation, carried along the stream with attention patterns
    and norms held constant, in the unit of its destination: a feature's pre-activation, or a logit
    minus the mean over the vocabulary.

    Args:
        tokens: the prompt's token ids.
        text: their strings.
        nodes: along the forward pass, by position within a depth: `input@0`, `m3.f17@4`,
            `m3.error@4`, `logits.t42@7`.
        activation: of each feature; of a logit its probability; 1 for tokens and error nodes.
        influence: of each node on the logits, in the graph before pruning.
        src: of each edge, as an index into `nodes`.
        dest: of each edge.
        weight: of each edge, its direct effect; negative ones inhibit.
        n_active: how many nodes there were before pruning.
        replacement: the share of the paths from the tokens that pass no error node.
        completeness: the share of influence that comes from other nodes than errors.
        predicted: the strings of the logits' tokens, in the order of those nodes; empty where they
            are not known.
    """

    tokens: tuple[int, ...]
    text: tuple[str, ...]
    nodes: tuple[Node, ...]
    activation: Float[Tensor, "node"]
    influence: Float[Tensor, "node"]
    src: Int64[Tensor, "edge"]
    dest: Int64[Tensor, "edge"]
    weight: Float[Tensor, "edge"]
    n_active: int
    replacement: float
    completeness: float
    provenance: Provenance = field(default_factory=Provenance)
    predicted: tuple[str, ...] = ()

    @property
    def edges(self) -> Sequence[Edge]:
        """The edges as values, in the order of `weight`."""
        ends = zip(self.src.tolist(), self.dest.tolist(), strict=True)
        return [Edge(self.nodes[s], self.nodes[d]) for s, d in ends]

    @cached_property
    def _edge_index(self) -> dict[Edge, int]:
        return {edge: i for i, edge in enumerate(self.edges)}

    def __getitem__(self, edge: Edge | str) -> float:
        """The weight of one edge, by value or by name, such as `m0.f3@2->m2.f17@4`.

        Raises:
            GraphError: it was pruned, or never was.
        """
        edge = parse_edge(edge) if isinstance(edge, str) else edge
        if edge not in self._edge_index:
            raise GraphError(f"{edge.name!r} is not an edge of {self!r}")
        return float(self.weight[self._edge_index[edge]])

    @property
    def prompt(self) -> str:
        """The tokens as one text, with spaces between them where none has one of its own."""
        return self._joined(self.text)

    def _joined(self, tokens: Sequence[str]) -> str:
        between = "" if any(" " in token for token in self.text) else " "
        return between.join(tokens)

    def token_text(self, node: Node) -> str:
        """The string of an input's or a logit's token, or "" where it is not known.

        Raises:
            GraphError: the node is not an input or a logit of this graph.
        """
        if node not in self.nodes or node.kind not in ("input", "logits"):
            raise GraphError(f"{node.name!r} is not an input or a logit of {self!r}")
        if node.kind == "input":
            return "" if node.pos is None else self.text[node.pos]
        known = dict(zip(self.tokens, self.text, strict=True))
        logits = [other for other in self.nodes if other.kind == "logits"]
        said = dict(zip(logits, self.predicted, strict=False))
        return said.get(node) or ("" if node.index is None else known.get(node.index, ""))

    def __repr__(self) -> str:
        said = self._joined(self.text[-4:])
        return (
            f"AttributionGraph({said!r}: {len(self.nodes):,} of {self.n_active:,} nodes, "
            f"{len(self.weight):,} edges)"
        )
