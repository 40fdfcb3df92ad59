"""A circuit as a picture before it is drawn: what stands where, how thick, in which colour.

The DOT text and the HTML page are both drawn from this description, so that they agree, and so
that what a picture says is tested without looking at pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from sae_circuits.graph import Circuit, Edge, Edges, Node, TensorGraph
from sae_circuits.graph.nodes import Kind, Port

Effect = Literal["helps", "hurts", "unknown"]

# Blue and vermilion of Okabe and Ito: told apart under every common colour blindness, and in grey.
COLOURS: dict[Effect, str] = {"helps": "#0072B2", "hurts": "#D55E00", "unknown": "#6B7280"}
MEANING: dict[Effect, str] = {
    "helps": "negative score: corrupting the edge lowers the metric, so the edge helps",
    "hurts": "positive score: corrupting the edge raises the metric, so the edge hurts",
    "unknown": "no score",
}
THINNEST, THICKEST = 0.6, 5.0  # points


@dataclass(frozen=True, slots=True)
class PictureNode:
    """A part of the model: its row counts upwards from the input, `ports` are its inputs."""

    name: str
    kind: Kind
    layer: int | None
    row: int
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureEdge:
    """A line between two parts; `width` in points grows with the size of the score."""

    name: str
    src: str
    dest: str
    port: Port | None
    score: float | None
    width: float
    effect: Effect

    @property
    def colour(self) -> str:
        """The colour of the sign of the score."""
        return COLOURS[self.effect]


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a drawing shows.

    `links` join a key/value head to the query heads that share it; they are no edges. `largest` is
    the size of the score that is drawn thickest, in the unit of `metric`.
    """

    title: str
    nodes: tuple[PictureNode, ...]
    edges: tuple[PictureEdge, ...]
    links: tuple[tuple[str, str], ...] = ()
    metric: str = ""
    largest: float | None = None

    @property
    def n_rows(self) -> int:
        """How many rows the nodes stand in."""
        return 1 + max((node.row for node in self.nodes), default=-1)

    @property
    def row_names(self) -> dict[int, str]:
        """The lowest row of each layer, with the layer's name."""
        lowest: dict[int, int] = {}
        for node in self.nodes:
            if node.layer is not None:
                lowest[node.layer] = min(node.row, lowest.get(node.layer, node.row))
        return {row: f"layer {layer}" for layer, row in lowest.items()}

    @property
    def effects(self) -> tuple[Effect, ...]:
        """The kinds of edge that occur, for the legend."""
        present = {edge.effect for edge in self.edges}
        return tuple(effect for effect in COLOURS if effect in present)


def picture(circuit: Circuit, *, title: str | None = None, max_edges: int = 500) -> Picture:
    """Describe how to draw a circuit: layers upwards, width by size and colour by sign of score.

    Args:
        title: replaces the line that names model, task, method and number of edges.
        max_edges: where the circuit has more, only those with the largest scores are drawn (the
            first ones where there are no scores), and the title says so.
    """
    ids = _strongest(circuit, max_edges)
    edges = Edges(circuit.graph, ids)
    values: Sequence[float | None] = (
        [None] * len(ids) if circuit.scores is None else circuit.scores.values.cpu()[ids].tolist()
    )
    sizes = [abs(value) for value in values if value is not None]
    largest = max(sizes, default=None)
    nodes = _nodes(circuit.graph, edges)
    return Picture(
        title=_title(circuit, len(ids)) if title is None else title,
        nodes=nodes,
        edges=tuple(_edge(e, v, largest) for e, v in zip(edges, values, strict=True)),
        links=_links(circuit.graph, {node.name for node in nodes}),
        metric=circuit.scores.provenance.metric if circuit.scores else "",
        largest=largest,
    )


def width_of(score: float | None, largest: float | None) -> float:
    """The width of a line in points: linear in the size of the score, never too thin to see.

    >>> width_of(-0.5, 1.0), width_of(0.0, 1.0), width_of(None, None)
    (2.8, 0.6, 1.2)
    """
    if score is None:
        return 1.2
    share = abs(score) / largest if largest else 0.0
    return round(THINNEST + (THICKEST - THINNEST) * share, 2)


def _strongest(circuit: Circuit, max_edges: int) -> torch.Tensor:
    """The ids of the edges to draw, in ascending order."""
    ids = circuit.mask.nonzero()[:, 0].cpu()
    if len(ids) <= max_edges:
        return ids
    if circuit.scores is not None:
        sizes = circuit.scores.values.cpu()[ids].abs()
        ids = ids[sizes.sort(descending=True, stable=True).indices]
    return ids[:max_edges].sort().values


def _edge(edge: Edge, score: float | None, largest: float | None) -> PictureEdge:
    effect: Effect = "unknown" if not score else "helps" if score < 0 else "hurts"
    src, dest = edge.src.component.name, edge.dest.component.name
    width = width_of(score, largest)
    return PictureEdge(edge.name, src, dest, edge.dest.port, score, width, effect)


def _nodes(graph: TensorGraph, edges: Edges) -> tuple[PictureNode, ...]:
    """The parts that the edges join, in rows: one for each depth that occurs."""
    present = {end.component for edge in edges for end in (edge.src, edge.dest)}
    depth = _heights(graph)
    rows = {d: row for row, d in enumerate(sorted({depth[node] for node in present}))}
    ports: dict[Kind, tuple[Port, ...]] = {"head": ("q", "k", "v"), "kv": ("k", "v")}
    if any(node.kind == "kv" for node in graph.dest_nodes):
        ports["head"] = ("q",)
    return tuple(
        PictureNode(node.name, node.kind, node.layer, rows[depth[node]], ports.get(node.kind, ()))
        for node in graph.components
        if node in present
    )


def _heights(graph: TensorGraph) -> dict[Node, float]:
    """How high each part stands: its depth, and key/value heads just below their query heads."""
    return {
        block.node(i).component: block.depth - (0.5 if block.kind == "kv" else 0.0)
        for block in (*graph.writers, *graph.readers)
        for i in range(len(block))
    }


def _links(graph: TensorGraph, present: set[str]) -> tuple[tuple[str, str], ...]:
    """Which key/value heads feed which heads, among those present."""
    links = {
        (graph.dest_nodes[reader].component.name, writer.name)
        for writer, readers in zip(graph.src_nodes, graph.readers_of, strict=True)
        for reader in readers
        if graph.dest_nodes[reader].kind == "kv"
    }
    return tuple(sorted(link for link in links if present.issuperset(link)))


def _title(circuit: Circuit, n_drawn: int) -> str:
    made = circuit.scores.provenance if circuit.scores else None
    model = circuit.graph.architecture.model
    parts = [model, *((made.task, made.method) if made else ())]
    drawn = "" if n_drawn == len(circuit) else f", the {n_drawn:,} strongest drawn"
    parts.append(f"{len(circuit):,} of {circuit.graph.n_edges:,} edges{drawn}")
    return " · ".join(part for part in parts if part)
