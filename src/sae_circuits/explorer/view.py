"""`CircuitView`: what the explorer's page shows of a circuit, frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sae_circuits.disk.atomic import write_whole

if TYPE_CHECKING:
    from sae_circuits.evaluation import Curve
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.graph import AttributionGraph, Circuit, SpanCircuit
    from sae_circuits.graph.annotations import Groups, Texts

Side = Literal["both", "a", "b"]


@dataclass(frozen=True)
class Part:
    """A node of the page.

    Args:
        name: such as "a9.h6" or "m3.f17@4".
        kind: such as "head" or "feature".
        layer: None for the input and the logits.
        row: how high it stands, counted upwards from the input.
        text: what stands in its box.
        pos: the position or span, as an index into the view's columns.
        ports: the inputs of a head, such as q, k and v.
        label: a short text of people's.
        note: a longer one.
        strength: from 0 to 1, how strongly a feature is tinted.
    """

    name: str
    kind: str
    layer: int | None
    row: int
    text: str
    pos: int | None = None
    ports: tuple[str, ...] = ()
    label: str = ""
    note: str = ""
    strength: float | None = None


@dataclass(frozen=True)
class Lines:
    """Edges as columns, in the order of their ranks: the first are the first to be kept.

    Args:
        src, dest: indices into the view's parts.
        port: of the destination, or "".
        score: None where there are none.
        side: in a comparison, which circuits have it.
    """

    src: tuple[int, ...]
    dest: tuple[int, ...]
    port: tuple[str, ...]
    score: tuple[float | None, ...]
    side: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """How faithful the best circuits of growing size are.

    Args:
        n_edges: how many edges each has, ascending.
        faithfulness: the share of the clean-to-corrupt gap that each recovers.
        low, high: the ends of its 95% interval; empty where they are not known.
        random: the mean of random circuits of the same sizes; empty where there are none.
    """

    n_edges: tuple[int, ...]
    faithfulness: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    random: tuple[float, ...] = ()


@dataclass(frozen=True)
class Overlap:
    """What two circuits share.

    Args:
        a, b: their names.
        edges: how many edges are in both, only in a, and only in b.
        nodes: the same of nodes.
    """

    a: str
    b: str
    edges: tuple[int, ...]
    nodes: tuple[int, ...]

    @property
    def jaccard(self) -> float:
        """Edges in both over edges in either."""
        return self.edges[0] / max(sum(self.edges), 1)


@dataclass(frozen=True)
class About:
    """Of what a view is.

    Args:
        title: of the page.
        line: what stands below it.
        measure: what a score is called, "score" or "weight".
        metric: whose unit scores are in.
        signs: what a negative and a positive score are called, and mean.
        provenance: how it was made.
        gap: what stands between two tokens of a text.
    """

    title: str
    line: str
    measure: str
    metric: str
    signs: tuple[str, ...]
    meanings: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    gap: str = ""


@dataclass(frozen=True)
class CircuitView:
    """A circuit, or two, or an attribution graph, as the explorer's page shows it.

    Args:
        about: of what.
        parts: the nodes, along the forward pass.
        lines: the edges by rank.
        size: how many of them the circuit has: the first ones.
        by: what they are ranked by, "abs", "help" or "hurt"; None where they have no scores.
        n_edges: how many the whole graph has.
        rows: the lowest row of each layer, and its name.
        columns: positions or spans, in order; empty where edges are summed over them.
        joins: pairs of parts, of which the first is what a component reads, and the second what is
            written of it; they are no edges.
        groups: node names by the name of the supernode that they are in at first.
        curve: faithfulness over sizes.
        overlap: of two circuits.
        details: what stores say of features, by their names without position.
        texts: of every token id in `details`.
        arrangement: what the page's "save" wrote, to begin with.
    """

    about: About
    parts: tuple[Part, ...]
    lines: Lines
    size: int
    by: str | None
    n_edges: int
    rows: Mapping[int, str]
    columns: tuple[str, ...] = ()
    joins: tuple[tuple[int, int], ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    curve: Measured | None = None
    overlap: Overlap | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[int, str] = field(default_factory=dict)
    arrangement: Mapping[str, Any] | None = None
