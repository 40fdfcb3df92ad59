"""A circuit to a file or to a notebook: which drawing the file's suffix asks for."""

from __future__ import annotations

from pathlib import Path

from sae_circuits.errors import OutputError
from sae_circuits.graph import Circuit
from sae_circuits.io.atomic import write_whole
from sae_circuits.viz.picture import Picture, picture

SUFFIXES = ("svg", "png", "pdf", "dot", "html")


def render(
    circuit: Circuit, path: str | Path, *, title: str | None = None, max_edges: int = 500
) -> Path:
    """Draw a circuit to a file; the suffix says how.

    Layers run upwards. Heads are boxes with one cell for each of q, k and v, MLPs are rounded;
    lines into k are dashed and into v dotted. Width grows with the size of an edge's score; blue
    edges help (corrupting them lowers the metric), orange ones hurt.

    Args:
        path: ends in .svg, .png or .pdf (these need the `dot` program of Graphviz), .dot, or
            .html (one page that needs neither a program nor a network).
        title: replaces the line that names model, task, method and number of edges.
        max_edges: where the circuit has more, only the strongest are drawn, and the title says so.

    Raises:
        OutputError: another suffix, or a place that cannot be written.
        MissingProgram: `dot` is not installed.
    """
    path = Path(path)
    suffix = suffix_of(path)
    drawn = picture(circuit, title=title, max_edges=max_edges)
    return write_whole(path, _draw(drawn, suffix))


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


def circuit_html(circuit: Circuit) -> str:
    """A circuit as a piece of HTML, as notebooks show it."""
    from sae_circuits.viz.pages import circuit_fragment

    return str(circuit_fragment(picture(circuit)))


def _draw(drawn: Picture, suffix: str) -> bytes | str:
    from sae_circuits.viz import dot, pages

    if suffix == "html":
        return pages.circuit_page(drawn)
    return dot.dot_text(drawn) if suffix == "dot" else dot.dot_image(drawn, suffix)
