"""`CircuitView`: what the explorer's page shows of a circuit, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import OutputError
from sae_circuits.explorer.details import Detail


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
        side: in a comparison, which circuits have it: "both", "a" or "b".
        other: in a comparison, the second circuit's scores.
    """

    src: tuple[int, ...]
    dest: tuple[int, ...]
    port: tuple[str, ...]
    score: tuple[float | None, ...]
    side: tuple[str, ...] = ()
    other: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Supernode:
    """Nodes that stand as one at first, by their names."""

    members: tuple[str, ...]
    label: str = ""
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """How faithful the best circuits of growing size are.

    Args:
        metric: in which that was measured.
        n_edges: how many edges each has, ascending.
        faithfulness: the share of the clean-to-corrupt gap that each recovers.
        low, high: the ends of its 95% interval; empty where they are not known.
        random: the mean of random circuits of the same sizes; empty where there are none.
    """

    metric: str
    n_edges: tuple[int, ...]
    faithfulness: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    random: tuple[float, ...] = ()


@dataclass(frozen=True)
class Shared:
    """How many edges, or nodes, are in both of two circuits, and only in one: see `sc.overlap`.

    Args:
        jaccard: those in both over those in either; None where neither has any.
        chance: what random circuits of these sizes have in the mean.
    """

    both: int
    only_a: int
    only_b: int
    jaccard: float | None
    chance: float | None


@dataclass(frozen=True)
class Overlap:
    """What two circuits share, with their names."""

    a: str
    b: str
    edges: Shared
    nodes: Shared


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

    `explore` of a circuit makes one, and a notebook shows it.

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
        own: whether these are first though others have a better score.
        single: whether scores are in 32 bits, to which a threshold is then rounded.
        groups: by name, what stands as one node at first.
        curve: faithfulness over sizes.
        overlap: of two circuits.
        details: what stores say of features.
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
    own: bool = False
    single: bool = True
    groups: Mapping[str, Supernode] = field(default_factory=dict)
    curve: Measured | None = None
    overlap: Overlap | None = None
    details: tuple[Detail, ...] = ()
    texts: Mapping[int, str] = field(default_factory=dict)
    arrangement: Mapping[str, Any] | None = None

    def render(self, path: str | Path) -> Path:
        """Write it as one HTML page that needs no network.

        Raises:
            OutputError: a path that does not end in .html, or that cannot be written.
        """
        from sae_circuits.explorer.page import explorer_page

        return write_whole(require_page(path), explorer_page(self))

    def _repr_html_(self) -> str:
        from sae_circuits.dashboards.page import frame
        from sae_circuits.explorer.page import explorer_page

        return str(frame(explorer_page(self), self.about.title))

    def __repr__(self) -> str:
        return f"CircuitView({self.about.title!r}: {self.size:,} edges of {self.n_edges:,})"


def require_page(path: str | Path) -> Path:
    """A path that a page can be written to, by its suffix.

    Raises:
        OutputError: it does not end in .html.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"cannot write {str(path)!r}: the explorer is a page; end it in .html")
    return path
