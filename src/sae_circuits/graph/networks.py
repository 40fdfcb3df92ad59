"""Export to and import from networkx, and its communities: the only module that imports it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import networkx
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.graph.circuit import Circuit
from sae_circuits.graph.edges import Edges
from sae_circuits.graph.nodes import Edge, parse_edge
from sae_circuits.graph.scores import Scores
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:  # generic in its types alone
    Network = networkx.MultiDiGraph[str]
else:
    Network = networkx.MultiDiGraph


def to_networkx(edges: Edges, scores: Scores | None = None) -> Network:
    """A directed graph of components by name; parallel edges are told apart by the full name.

    Nodes carry `kind` and `layer`; edges have the edge's name as key and carry `port`, and
    `score` where scores are given.
    """
    network = networkx.MultiDiGraph()
    values = scores.values.tolist() if scores is not None else None
    ids = range(len(edges)) if edges.ids is None else edges.ids.tolist()
    for edge_id, edge in zip(ids, edges, strict=True):
        src, dest = edge.src.component, edge.dest.component
        for node in (src, dest):
            network.add_node(node.name, kind=node.kind, layer=node.layer)
        data: dict[str, object] = {"port": edge.dest.port}
        if values is not None:
            data["score"] = values[edge_id]
        network.add_edge(src.name, dest.name, key=edge.name, **data)
    return network


def from_networkx(graph: TensorGraph, network: Network) -> Circuit:
    """The circuit of a network made by `to_networkx`.

    Raises:
        GraphError: an edge key that is no edge of the graph.
    """
    return Circuit.from_edges(graph, _edges(network))


def _edges(network: Network) -> Iterable[Edge]:
    for _, _, key in network.edges(keys=True):
        if not isinstance(key, str):
            raise GraphError(f"edge key {key!r} is not an edge's name such as 'a0.h1->m1'")
        yield parse_edge(key)


def louvain(
    n: int,
    left: Int64[Tensor, "pair"],
    right: Int64[Tensor, "pair"],
    weights: Float[Tensor, "pair"],
    *,
    resolution: float = 1.0,
    seed: int = 0,
) -> list[list[int]]:
    """Communities of an undirected graph of n nodes, by modularity; a lone node is in none.

    Args:
        left, right: the ends of each edge, once.
        weights: of the edges, above 0.
        resolution: above 1 for more and smaller communities.
        seed: of the order in which nodes are moved.

    Reference: Blondel et al., arXiv 0803.0476; the resolution is that of 0812.1770.

    >>> import torch
    >>> ends = torch.tensor([[0, 0, 1, 3, 2], [1, 2, 2, 4, 3]])
    >>> louvain(6, *ends, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.1]))
    [[0, 1, 2], [3, 4]]
    """
    network = networkx.Graph()
    network.add_nodes_from(range(n))
    network.add_weighted_edges_from(
        zip(left.tolist(), right.tolist(), weights.tolist(), strict=True)
    )
    network.remove_nodes_from([node for node, degree in list(network.degree) if not degree])
    found = networkx.community.louvain_communities(network, resolution=resolution, seed=seed)
    return sorted(sorted(community) for community in found)
