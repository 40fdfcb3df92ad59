"""Self-contained HTML, with no network and no binary: the only module that imports jinja2.

Everything that comes from data is escaped by jinja2; what is marked safe is made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sae_circuits.viz.boxes import PORT_HEIGHT, Box, clipped
from sae_circuits.viz.grid import place_in_columns
from sae_circuits.viz.layout import Layout, Point, arrow_size, place, within_lines
from sae_circuits.viz.picture import MEANING, SAID, THICKEST, Picture, PictureEdge, PictureNode

_CORNER = {"head": 1.0, "kv": 1.0, "mlp": 10.0, "error": 1.0, "group": 4.0}


def circuit_fragment(picture: Picture) -> Markup:
    """A figure with a drawing and its legend, to be put into any HTML page or notebook."""
    layout = place_in_columns(picture) if picture.columns else place(picture)
    parts = {node.name: node for node in picture.nodes}
    said = {node.pos for node in picture.nodes if node.kind == "input"}
    return render_template(
        "circuit.html",
        css=Markup(source("circuit.css")),
        picture=picture,
        layout=layout,
        row_names=[(name, layout.row_y(row)) for row, name in picture.row_names.items()],
        columns=[
            (*layout.columns[pos], "" if pos in said else clipped(text, 12))
            for pos, text in picture.columns
        ],
        links=[(layout.outlet(a), layout.inlet(parts[b])) for a, b in picture.links],
        within=[_path(control) for _, _, control in within_lines(picture, layout)],
        lines=[_line(edge, layout, picture) for edge in sorted(picture.edges, key=_by_width)],
        boxes=[
            _box(node, i, layout.nodes[node.name], layout.boxes[node.name])
            for i, node in enumerate(picture.nodes)
        ],
        meaning=MEANING,
        said=SAID,
        thickest=THICKEST,
        has_ports=any(edge.port for edge in picture.edges),
        has_strength=any(node.strength is not None for node in picture.nodes),
    )


def circuit_page(picture: Picture) -> str:
    """One HTML page that shows a circuit."""
    return page(picture.title, circuit_fragment(picture))


def page(title: str, body: Markup, css: str = "") -> str:
    """A whole page around a body, light or dark as the reader's system asks."""
    style = Markup(source("page.css") + css)
    return render_template("page.html", title=title, css=style, body=body)


def render_template(name: str, **values: Any) -> Markup:
    """Fill in one of the templates beside this module."""
    return Markup(_environment().get_template(name).render(**values))


def source(name: str) -> str:
    """The text of a file beside the templates, such as a style sheet."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _by_width(edge: PictureEdge) -> float:
    return edge.width


def _line(edge: PictureEdge, layout: Layout, picture: Picture) -> Mapping[str, object]:
    """A smooth line from node to node; among rows, with a head of its own."""
    x, y = layout.paths[edge.name][-1]
    size, half = (0.0, 0.0) if picture.columns else arrow_size(edge.width)
    d = _path(layout.control(edge.name, size))  # the line stops where its head begins
    head = f"{x:g},{y:g} {x - half:g},{y + size:g} {x + half:g},{y + size:g}"
    return {"edge": edge, "d": d, "head": "" if picture.columns else head, "tip": edge.tip}


def _path(control: Sequence[Point]) -> str:
    start, *rest = control
    return f"M{start[0]:g} {start[1]:g}C" + " ".join(f"{x:g} {y:g}" for x, y in rest)


def _box(node: PictureNode, number: int, middle: Point, box: Box) -> Mapping[str, object]:
    """A node's rectangle with its lines of text, and a cell for each input along its underside."""
    left, top = middle[0] - box.width / 2, middle[1] - box.height / 2
    cell = (box.width - 2) / max(len(node.ports), 1)
    cells = [
        {"port": port, "x": left + 1 + i * cell, "y": top + box.height - PORT_HEIGHT - 0.5,
         "width": cell, "height": PORT_HEIGHT}
        for i, port in enumerate(node.ports)
    ]  # fmt: skip
    step = 9.0
    first = middle[1] + (-1 if node.ports else 4) - step * len(box.lines) / 2
    if box.letters != 12:
        first -= 1
    return {
        "node": node,
        "number": number,
        "x": left,
        "y": top,
        "width": box.width,
        "height": box.height,
        "corner": min(_CORNER.get(node.kind, 14.0), box.height / 2),
        "cells": cells,
        "text": clipped(node.text, 22),
        "letters": box.letters,
        "text_y": first,
        "lines": [(line, first + step * (i + 1) + 1) for i, line in enumerate(box.lines)],
        "tip": node.tip,
        "tint": None if node.strength is None else round(100 * min(node.strength, 1.0)),
    }
