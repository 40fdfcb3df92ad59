"""A graph to a file or to a notebook: which drawing the file's suffix asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import OutputError
from sae_circuits.graph import AttributionGraph, SpanCircuit
from sae_circuits.graph.annotations import Groups, Texts
from sae_circuits.viz.picture import Picture
from sae_circuits.viz.pictures import graph_picture, picture

if TYPE_CHECKING:
    from sae_circuits.graph.out import AnyDrawn

SUFFIXES = ("svg", "png", "pdf", "dot", "html")


def render(
    graph: AnyDrawn,
    path: str | Path,
    *,
    title: str | None = None,
    max_edges: int | None = None,
    labels: Texts | None = None,
    notes: Texts | None = None,
    groups: Groups | None = None,
) -> Path:
    """Draw a circuit or an attribution graph to a file; the suffix says how.

    Of a circuit by span, the edges that are in at any span are drawn.

    Layers run upwards, and the tokens of an attribution graph to the right. Heads are boxes with
    one cell for each of q, k and v, MLPs and features are rounded, error nodes dashed; lines into k
    are dashed and into v dotted. Width grows with the size of an edge's score. In a circuit, blue
    edges help (corrupting them lowers the metric) and orange ones hurt; in an attribution graph,
    blue edges raise their destination and orange ones lower it.

    Args:
        path: ends in .svg, .png or .pdf (these need the `dot` program of Graphviz), .dot, or
            .html (the drawing alone on a page that needs neither a program nor a network; `explore`
            makes one on which it is filtered and grouped).
        title: replaces the line that says what is drawn.
        max_edges: where there are more, only the strongest are drawn, and the title says so; by
            default 500 of a circuit and 2,000 of an attribution graph.
        labels: a short text under a node, by the node's name, with or without a position.
        notes: a longer text that shows on hover, such as a feature's top tokens.
        groups: node names by the name of the one node that is drawn in their place; its edges
            carry the sums of their scores.

    Raises:
        OutputError: another suffix, or a place that cannot be written.
        GraphError: a group of what are no nodes' names, or a node in two groups.
        MissingProgram: `dot` is not installed.
    """
    path = Path(path)
    suffix = suffix_of(path)
    options: dict[str, Any] = {"title": title, "labels": labels, "notes": notes, "groups": groups}
    if max_edges is not None:
        options["max_edges"] = max_edges
    return write_whole(path, _draw(_picture(graph, **options), suffix))


def suffix_of(path: Path) -> str:
    """The kind of drawing that a path asks for.

    Raises:
        OutputError: no kind has this suffix.
    """
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in SUFFIXES:
        raise OutputError(
            f"cannot draw {str(path)!r}: its suffix is {path.suffix!r}; "
            f"end it in one of {', '.join('.' + known for known in SUFFIXES)}"
        )
    return suffix


def circuit_html(graph: AnyDrawn) -> str:
    """A circuit or an attribution graph as a piece of HTML, as notebooks show it."""
    from sae_circuits.viz.pages import circuit_fragment

    return str(circuit_fragment(_picture(graph)))


def _picture(graph: AnyDrawn, **options: Any) -> Picture:
    """What is drawn; of a circuit by span, the edges that are in at any span."""
    if isinstance(graph, AttributionGraph):
        return graph_picture(graph, **options)
    whole = graph.union if isinstance(graph, SpanCircuit) else graph
    return picture(whole, **options)


def _draw(drawn: Picture, suffix: str) -> bytes | str:
    from sae_circuits.viz import dot, pages

    if suffix == "html":
        return pages.circuit_page(drawn)
    return dot.dot_text(drawn) if suffix == "dot" else dot.dot_image(drawn, suffix)
