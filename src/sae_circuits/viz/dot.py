"""Pictures through Graphviz: the only module that imports it.

The DOT text needs the Python package alone; svg, png and pdf need the `dot` program as well. Nodes
and lines are placed by `layout`, as in the HTML page: with two hundred edges dot's own layout grows
five times as wide as it is high.
"""

from __future__ import annotations

from html import escape

import graphviz

from sae_circuits.errors import MissingProgram
from sae_circuits.graph.nodes import Port
from sae_circuits.viz.layout import (
    NODE_HEIGHT,
    NODE_WIDTH,
    Layout,
    Point,
    arrow_size,
    curve,
    outlet,
    place,
    underside,
)
from sae_circuits.viz.picture import COLOURS, MEANING, Picture, PictureEdge, PictureNode

INK, FAINT, FONT = "#1F2937", "#6B7280", "Helvetica,Arial,sans-serif"
FILL = {
    "input": "#E5E7EB",
    "head": "#FFFFFF",
    "kv": "#FFFFFF",
    "mlp": "#FEF3C7",
    "logits": "#E5E7EB",
}
DPI = 150  # sharp in print at the width of a column
PORT_FILL, PORT_HEIGHT = "#EEF2F7", 11
STYLE: dict[Port | None, str] = {None: "solid", "q": "solid", "k": "dashed", "v": "dotted"}

_GRAPH = {
    "rankdir": "BT",  # for programs that lay it out anew
    "bgcolor": "white",
    "fontname": FONT,
    "fontsize": "11",
    "fontcolor": INK,
    "labelloc": "b",
    "outputorder": "edgesfirst",
    "pad": "0.2",
}
_NODE = {"shape": "plain", "fontname": FONT, "fontsize": "11", "fontcolor": INK}


def dot_text(picture: Picture, *, dpi: int | None = None) -> str:
    """The picture in the DOT language, with every node and every line in its place.

    `neato -n2 -Tsvg` draws it as placed, `dot -Tsvg` lays it out anew.

    Args:
        dpi: dots per inch of a bitmap; in a drawing it would change the size.
    """
    layout = place(picture)
    dot = graphviz.Digraph("circuit", graph_attr=_GRAPH, node_attr=_NODE)
    dot.attr(label=_legend(picture), **({} if dpi is None else {"dpi": str(dpi)}))
    for row, name in picture.row_names.items():
        at = _at((40.0, layout.row_y(row)), layout)
        dot.node(f"row {row}", label=name, pos=at, fontcolor=FAINT, fontsize="9")
    for node in picture.nodes:
        at = _at(layout.nodes[node.name], layout)
        dot.node(node.name, label=_label(node), pos=at, tooltip=node.name)
    for edge in sorted(picture.edges, key=lambda edge: edge.width):  # the strongest on top
        _add_edge(dot, edge, layout)
    for kv, head in picture.links:
        ends = outlet(layout.nodes[kv]), underside(layout.nodes[head])
        spline = _spline(curve(ends), layout)
        dot.edge(kv, head, pos=spline, style="dotted", color=FAINT, arrowhead="none")
    return dot.source


def dot_image(picture: Picture, suffix: str) -> bytes:
    """The picture as an image file of a kind that Graphviz knows, such as "svg", "png" or "pdf".

    Raises:
        MissingProgram: the `dot` program is not installed.
    """
    source = graphviz.Source(dot_text(picture, dpi=DPI if suffix == "png" else None))
    try:
        return source.pipe(format=suffix, engine="neato", neato_no_op=2)
    except graphviz.ExecutableNotFound as error:
        raise MissingProgram(
            f"cannot draw {suffix}: the 'dot' program of Graphviz is not installed. Install it "
            "(Debian, Ubuntu: apt install graphviz; macOS: brew install graphviz; conda: conda "
            "install graphviz; Windows: winget install graphviz), or write a file that ends in "
            ".html, which draws the same picture without it, or in .dot"
        ) from error


def has_dot() -> bool:
    """Whether the `dot` program is installed."""
    try:
        graphviz.version()
    except graphviz.ExecutableNotFound:
        return False
    return True


def _label(node: PictureNode) -> str:
    """A table: the name, and below it one cell for each input."""
    name = f"<B>{escape(node.name)}</B>" if node.kind in ("input", "logits") else escape(node.name)
    n_cells, inside = max(len(node.ports), 1), NODE_WIDTH - 2
    cells = "".join(
        f'<TD PORT="{port}" {_size(inside / n_cells, PORT_HEIGHT)} BGCOLOR="{PORT_FILL}">'
        f'<FONT POINT-SIZE="7" COLOR="{FAINT}">{port}</FONT></TD>'
        for port in node.ports
    )
    style = "" if cells else ' STYLE="ROUNDED"'
    inputs = f"<TR>{cells}</TR>" if cells else ""
    name_height = NODE_HEIGHT - 2 - (PORT_HEIGHT if cells else 0)
    return (
        f'<<TABLE {_size(NODE_WIDTH, NODE_HEIGHT)} BORDER="1" CELLBORDER="0" CELLSPACING="0" '
        f'CELLPADDING="0" COLOR="{INK}" BGCOLOR="{FILL[node.kind]}"'
        f"{style}>"
        f'<TR><TD COLSPAN="{n_cells}" {_size(inside, name_height)}>{name}</TD></TR>'
        f"{inputs}</TABLE>>"
    )


def _size(width: float, height: float) -> str:
    return f'FIXEDSIZE="TRUE" WIDTH="{int(width)}" HEIGHT="{int(height)}"'


def _add_edge(dot: graphviz.Digraph, edge: PictureEdge, layout: Layout) -> None:
    *points, (x, y) = layout.paths[edge.name]
    size, _ = arrow_size(edge.width)
    dot.edge(
        edge.src,
        f"{edge.dest}:{edge.port}" if edge.port else edge.dest,
        pos=f"e,{_at((x, y), layout)} {_spline(curve([*points, (x, y + size)]), layout)}",
        color=edge.colour,
        penwidth=f"{edge.width:g}",
        arrowsize=f"{size / 10:.2f}",
        style=STYLE[edge.port],
        tooltip=edge.name if edge.score is None else f"{edge.name}: {edge.score:+.4g}",
    )


def _at(point: Point, layout: Layout) -> str:
    return f"{point[0]:g},{layout.height - point[1]:g}"  # Graphviz counts upwards


def _spline(control: list[Point], layout: Layout) -> str:
    return " ".join(_at(point, layout) for point in control)


def _legend(picture: Picture) -> str:
    """Title, colours in words, line styles and the width's unit, as a table under the picture."""
    lines = [f"<B>{escape(picture.title)}</B>"]
    lines += [
        f'<FONT COLOR="{COLOURS[effect]}">━━</FONT>&#160;{MEANING[effect]}'
        for effect in picture.effects
    ]
    if any(edge.port for edge in picture.edges):
        lines.append("lines into q are solid, into k dashed, into v dotted")
    if picture.links:
        lines.append("grey dots lead from a shared key/value head to the heads that read it")
    if picture.largest:
        unit = f" of {escape(picture.metric)}" if picture.metric else ""
        lines.append(
            f"the thickest line has a score of size {picture.largest:.3g}{unit}; "
            "width is linear in size"
        )
    rows = "".join(f'<TR><TD ALIGN="LEFT">{line}</TD></TR>' for line in lines)
    return (
        '<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="1"><TR><TD HEIGHT="10"></TD></TR>'
        f"{rows}</TABLE>>"
    )
