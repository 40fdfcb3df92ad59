"""Pictures through Graphviz: the only module that imports it.

The DOT text needs the Python package alone; svg, png and pdf need the `dot` program as well. Nodes
and lines are placed by `layout`, as in the HTML page: with two hundred edges dot's own layout grows
five times as wide as it is high.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import graphviz

from sae_circuits.errors import MissingProgram
from sae_circuits.graph.nodes import Port
from sae_circuits.viz.boxes import Box, clipped
from sae_circuits.viz.grid import place_in_columns
from sae_circuits.viz.layout import Layout, Point, arrow_size, curve, place, within_lines
from sae_circuits.viz.picture import (
    BORDER,
    COLOURS,
    FILL,
    MEANING,
    PORT_FILL,
    SAID,
    Picture,
    PictureEdge,
    PictureNode,
)
from sae_circuits.viz.picture import GREY as FAINT

INK, FONT = "#1F2937", "Helvetica,Arial,sans-serif"
WEAKEST, STRONGEST = (246, 251, 249), (127, 205, 178)  # of a feature's tint
DPI = 150  # sharp in print at the width of a column
PORT_HEIGHT = 11
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
    layout = place_in_columns(picture) if picture.columns else place(picture)
    dot = graphviz.Digraph("circuit", graph_attr=_GRAPH, node_attr=_NODE)
    dot.attr(label=_legend(picture), **({} if dpi is None else {"dpi": str(dpi)}))
    for row, name in picture.row_names.items():
        at = _at((40.0 if not picture.columns else 28.0, layout.row_y(row)), layout)
        dot.node(f"row {row}", label=name, pos=at, fontcolor=FAINT, fontsize="9")
    _add_columns(dot, picture, layout)
    ids = _ids(picture)
    for node in picture.nodes:
        at = _at(layout.nodes[node.name], layout)
        label = _label(node, layout.boxes[node.name])
        tip = graphviz.escape(node.tip) if node.is_wide or node.label or node.note else node.name
        dot.node(ids[node.name], label=label, pos=at, tooltip=tip)
    for edge in sorted(picture.edges, key=lambda edge: edge.width):  # the strongest on top
        _add_edge(dot, edge, ids, layout, among_many=bool(picture.columns))
    parts = {node.name: node for node in picture.nodes}
    links = [
        (low, high, curve([layout.outlet(low), layout.inlet(parts[high])]), "dotted")
        for low, high in picture.links
    ]
    within = [(*line, "solid") for line in within_lines(picture, layout)]
    for low, high, control, style in (*links, *within):
        spline = _spline(control, layout)
        dot.edge(ids[low], ids[high], pos=spline, style=style, color=FAINT, arrowhead="none")
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


def _ids(picture: Picture) -> dict[str, str]:
    """What DOT calls each node: a group's name may hold anything, and gets a number."""
    return {
        node.name: f"group {i}" if node.kind == "group" else node.name
        for i, node in enumerate(picture.nodes)
    }


def _add_columns(dot: graphviz.Digraph, picture: Picture, layout: Layout) -> None:
    """The token under each column that has no node to say it, and lines between the columns."""
    said = {node.pos for node in picture.nodes if node.kind == "input"}
    for pos, text in picture.columns:
        left, right = layout.columns[pos]
        ends = [f"column {pos} {end}" for end in ("low", "high")]
        for name, y in zip(ends, (layout.height, 0.0), strict=True):
            dot.node(name, label="", pos=_at((left, y), layout), shape="point", style="invis")
        line = _spline([(left, layout.height), *2 * [(left, layout.height / 2)], (left, 0)], layout)
        dot.edge(*ends, pos=line, color="#E5E7EB", penwidth="0.6", arrowhead="none")
        if pos not in said:
            at = _at(((left + right) / 2, layout.row_y(0)), layout)
            label = f"<{escape(clipped(text, 12))}>"
            dot.node(f"column {pos}", label=label, pos=at, fontcolor=FAINT, fontsize="9")


def _label(node: PictureNode, box: Box) -> str:
    """A table: the name and its label, and below them one cell for each input."""
    text = escape(clipped(node.text, 22))
    name = f"<B>{text}</B>" if node.kind in ("input", "logits", "group") else text
    if box.letters != 12:
        name = f'<FONT POINT-SIZE="{box.letters:g}">{name}</FONT>'
    name += "".join(
        f'<BR/><FONT POINT-SIZE="8" COLOR="{FAINT}">{escape(line)}</FONT>' for line in box.lines
    )
    border = 2 if node.kind == "group" else 1
    n_cells, inside = max(len(node.ports), 1), box.width - 2 * border
    cells = "".join(
        f'<TD PORT="{port}" {_size(inside / n_cells, PORT_HEIGHT)} BGCOLOR="{PORT_FILL}">'
        f'<FONT POINT-SIZE="7" COLOR="{FAINT}">{port}</FONT></TD>'
        for port in node.ports
    )
    style = "" if cells else ' STYLE="ROUNDED"'
    if node.kind == "error":
        style = ' STYLE="DASHED"'
    inputs = f"<TR>{cells}</TR>" if cells else ""
    name_height = box.height - 2 * border - (PORT_HEIGHT if cells else 0)
    return (
        f'<<TABLE {_size(box.width, box.height)} BORDER="{border}" '
        'CELLBORDER="0" CELLSPACING="0" '
        f'CELLPADDING="0" COLOR="{BORDER.get(node.kind, INK)}" BGCOLOR="{_fill(node)}"'
        f"{style}>"
        f'<TR><TD COLSPAN="{n_cells}" {_size(inside, name_height)}>{name}</TD></TR>'
        f"{inputs}</TABLE>>"
    )


def _fill(node: PictureNode) -> str:
    """A node's colour; a feature's grows with its strength, where that is known."""
    if node.strength is None:
        return FILL[node.kind]
    mixed = (
        round(a + (b - a) * min(node.strength, 1.0))
        for a, b in zip(WEAKEST, STRONGEST, strict=True)
    )
    return "#" + "".join(f"{part:02X}" for part in mixed)


def _size(width: float, height: float) -> str:
    return f'FIXEDSIZE="TRUE" WIDTH="{int(width)}" HEIGHT="{int(height)}"'


def _add_edge(
    dot: graphviz.Digraph,
    edge: PictureEdge,
    ids: Mapping[str, str],
    layout: Layout,
    *,
    among_many: bool,
) -> None:
    size, _ = (0.0, 0.0) if among_many else arrow_size(edge.width)
    end = "" if among_many else f"e,{_at(layout.paths[edge.name][-1], layout)} "
    dot.edge(
        ids[edge.src],
        f"{ids[edge.dest]}:{edge.port}" if edge.port else ids[edge.dest],
        pos=f"{end}{_spline(layout.control(edge.name, size), layout)}",
        color=edge.colour + (f"{round(255 * edge.opacity):02X}" if among_many else ""),
        penwidth=f"{edge.width:g}",
        **({"arrowhead": "none"} if among_many else {"arrowsize": f"{size / 10:.2f}"}),
        style=STYLE[edge.port],
        tooltip=edge.tip,
    )


def _at(point: Point, layout: Layout) -> str:
    return f"{point[0]:g},{layout.height - point[1]:g}"  # Graphviz counts upwards


def _spline(control: list[Point], layout: Layout) -> str:
    return " ".join(_at(point, layout) for point in control)


def _legend(picture: Picture) -> str:
    """Title, colours in words, line styles and the width's unit, as a table under the picture."""
    lines = [f"<B>{escape(picture.title)}</B>"] if picture.title else []
    lines += [
        f'<FONT COLOR="{COLOURS[effect]}">━━</FONT>&#160;{MEANING[effect]}'
        for effect in picture.effects
    ]
    if any(edge.port for edge in picture.edges):
        lines.append("lines into q are solid, into k dashed, into v dotted")
    if picture.links:
        lines.append("grey dots lead from a shared key/value head to the heads that read it")
    if picture.within:
        lines.append("thin grey lines lead from what a part reads to what is written of it")
    lines += [
        f'<FONT COLOR="{BORDER.get(kind, INK)}">▢</FONT>&#160;{escape(SAID[kind])}'
        for kind in picture.explained
    ]
    if any(node.strength is not None for node in picture.nodes):
        lines.append("the stronger the tint of a feature, the greater its influence on the logits")
    if picture.largest:
        unit = f" of {escape(picture.metric)}" if picture.metric else ""
        lines.append(
            f"the thickest line has a {picture.measure} of size {picture.largest:.3g}{unit}; "
            "width is linear in size"
        )
    rows = "".join(f'<TR><TD ALIGN="LEFT">{line}</TD></TR>' for line in lines)
    return (
        '<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="1"><TR><TD HEIGHT="10"></TD></TR>'
        f"{rows}</TABLE>>"
    )
