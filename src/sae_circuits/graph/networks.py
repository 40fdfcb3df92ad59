"""Export to and import from networkx: the only module that imports it."""

from __future__ import annotations

from collections.abc import Iterable

import networkx

from sae_circuits.errors import GraphError
from sae_circuits.graph.circuit import Circuit
from sae_circuits.graph.edges import Edges
from sae_circuits.graph.nodes import Edge, parse_edge
from sae_circuits.graph.scores import Scores
from sae_circuits.graph.tensor_graph import TensorGraph


def to_networkx(edges: Edges, scores: Scores | None = None) -> networkx.MultiDiGraph:
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


def from_networkx(graph: TensorGraph, network: networkx.MultiDiGraph) -> Circuit:
    """The circuit of a network made by `to_networkx`.

    Raises:
        GraphError: an edge key that is no edge of the graph.
    """
    return Circuit.from_edges(graph, _edges(network))


def _edges(network: networkx.MultiDiGraph) -> Iterable[Edge]:
    for _, _, key in network.edges(keys=True):
        if not isinstance(key, str):
            raise GraphError(f"edge key {key!r} is not an edge's name such as 'a0.h1->m1'")
        yield parse_edge(key)
