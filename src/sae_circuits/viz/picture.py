"""A graph as a picture before it is drawn: what stands where, how thick, in which colour.

The DOT text and the HTML page are both drawn from this description, so that they agree, and so
that what a picture says is tested without looking at pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sae_circuits.graph.nodes import Kind, Port

Effect = Literal["helps", "hurts", "excites", "inhibits", "unknown"]
Drawn = Kind | Literal["group"]

# Blue and vermilion of Okabe and Ito: told apart under every common colour blindness, and in grey.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#6B7280"
COLOURS: dict[Effect, str] = {
    "helps": BLUE, "hurts": VERMILION, "excites": BLUE, "inhibits": VERMILION, "unknown": GREY,
}  # fmt: skip
MEANING: dict[Effect, str] = {
    "helps": "negative score: corrupting the edge lowers the metric, so the edge helps",
    "hurts": "positive score: corrupting the edge raises the metric, so the edge hurts",
    "excites": "positive weight: the source raises its destination",
    "inhibits": "negative weight: the source lowers its destination",
    "unknown": "no score",
}
SAID: dict[Drawn, str] = {
    "input": "embeddings",
    "head": "attention head",
    "kv": "shared key/value head",
    "mlp": "MLP",
    "feature": "feature",
    "neuron": "neuron",
    "error": "error node: what features or neurons leave",
    "skip": "skip term: what passes the features by",
    "group": "group of nodes",
    "logits": "output",
}
FILL: dict[Drawn, str] = {
    "input": "#E5E7EB",
    "head": "#FFFFFF",
    "kv": "#FFFFFF",
    "mlp": "#FEF3C7",
    "feature": "#CFECE1",
    "neuron": "#FCE7D6",
    "error": "#F3F4F6",
    "skip": "#F6E6F0",
    "group": "#FFFFFF",
    "logits": "#E5E7EB",
}
BORDER: dict[Drawn, str] = {
    "feature": "#009E73", "neuron": "#B45309", "error": GREY, "skip": "#CC79A7",
}  # fmt: skip
PORT_FILL = "#EEF2F7"
KINDS_TO_EXPLAIN: tuple[Drawn, ...] = ("feature", "neuron", "error", "skip", "group")
THINNEST, THICKEST = 0.6, 5.0  # points


@dataclass(frozen=True, slots=True)
class PictureNode:
    """A part of the model: its row counts upwards from the input, `ports` are its inputs.

    `label` stands under the name and `note` beside it on hover; `short` replaces the name where
    row and column say the rest. `strength` from 0 to 1 tints a feature; `members` are the nodes of
    a group.
    """

    name: str
    kind: Drawn
    layer: int | None
    row: int
    ports: tuple[Port, ...] = ()
    pos: int | None = None
    label: str = ""
    note: str = ""
    short: str = ""
    strength: float | None = None
    members: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What stands in the box."""
        return self.short or self.name

    @property
    def is_wide(self) -> bool:
        """Whether the name may need more room than those of heads and MLPs."""
        return self.kind in KINDS_TO_EXPLAIN or self.pos is not None

    @property
    def tip(self) -> str:
        """What is shown on hover: name, kind, label, note and members."""
        lines = [f"{self.name} ({SAID[self.kind]})", self.label, self.note, ", ".join(self.members)]
        return "\n".join(line for line in lines if line)


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

    @property
    def opacity(self) -> float:
        """How much shows of the line among hundreds: it grows with the size of the score."""
        share = max(self.width - THINNEST, 0.0) / (THICKEST - THINNEST)
        return round(0.12 + 0.68 * share**0.5, 2)

    @property
    def tip(self) -> str:
        """What is shown on hover: name and score."""
        return self.name if self.score is None else f"{self.name}: {self.score:+.4g}"


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a drawing shows.

    `links` join a key/value head to the query heads that share it, and `within` joins what a
    component reads to what is written of it; they are no edges. `largest` is the size of the score
    that is drawn thickest, in the unit of `metric`. `columns` are the positions of a picture of
    single tokens with their strings; others have none.
    """

    title: str
    nodes: tuple[PictureNode, ...]
    edges: tuple[PictureEdge, ...]
    links: tuple[tuple[str, str], ...] = ()
    metric: str = ""
    largest: float | None = None
    within: tuple[tuple[str, str], ...] = ()
    columns: tuple[tuple[int, str], ...] = ()
    measure: str = "score"

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

    @property
    def explained(self) -> tuple[Drawn, ...]:
        """The kinds of node that occur and whose look the legend explains."""
        present = {node.kind for node in self.nodes}
        return tuple(kind for kind in KINDS_TO_EXPLAIN if kind in present)


def width_of(score: float | None, largest: float | None) -> float:
    """The width of a line in points: linear in the size of the score, never too thin to see.

    >>> width_of(-0.5, 1.0), width_of(0.0, 1.0), width_of(None, None)
    (2.8, 0.6, 1.2)
    """
    if score is None:
        return 1.2
    share = abs(score) / largest if largest else 0.0
    return round(THINNEST + (THICKEST - THINNEST) * share, 2)
