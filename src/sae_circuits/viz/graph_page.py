"""An attribution graph as one page that answers to the mouse and the keyboard.

The script beside this module's templates only finds, marks and lists; all text from data reaches
the page as text, escaped by jinja2 or set as text content.
"""

from __future__ import annotations

from markupsafe import Markup

from sae_circuits.graph import AttributionGraph
from sae_circuits.viz.pages import circuit_fragment, page, render_template, source
from sae_circuits.viz.picture import Picture, PictureNode


def graph_page(picture: Picture, graph: AttributionGraph) -> str:
    """One HTML page: the drawing, and beside it what leads to and from the node pointed at."""
    body = render_template(
        "graph.html",
        figure=circuit_fragment(picture, interactive=True),
        script=Markup(source("graph.js")),
        prompt=graph.prompt.strip(),
        figures=_figures(graph),
        data={
            "measure": picture.measure,
            "nodes": [_said(node) for node in picture.nodes],
            "edges": [[edge.name, edge.src, edge.dest, edge.score] for edge in picture.edges],
        },
    )
    return page(picture.title, body, source("graph.css"))


def _said(node: PictureNode) -> dict[str, object]:
    """What the script needs to know of a node."""
    return {
        "name": node.name,
        "kind": node.kind,
        "text": node.text,
        "label": node.label,
        "tip": node.tip.partition("\n")[2],
    }


def _figures(graph: AttributionGraph) -> list[tuple[str, str, str]]:
    """The scores of the graph, with what they mean; those that are not known are left out."""
    shares = (
        ("replacement", graph.replacement, "of the paths from the tokens pass no error node"),
        ("completeness", graph.completeness, "of the influence comes from other nodes than errors"),
    )
    return [(name, f"{share:.1%}", text) for name, share, text in shares if share == share]
