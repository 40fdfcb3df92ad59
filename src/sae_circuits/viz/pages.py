"""Self-contained HTML, with no network and no binary: the only module that imports jinja2.

Everything that comes from data is escaped by jinja2; what is marked safe is made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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
from sae_circuits.viz.picture import MEANING, THICKEST, Picture, PictureEdge, PictureNode

_CELL = 11.0  # the height of a port's cell
_CORNER = {"head": 1.0, "kv": 1.0, "mlp": 10.0}


def circuit_fragment(picture: Picture) -> Markup:
    """A figure with a drawing and its legend, to be put into any HTML page or notebook."""
    layout = place(picture)
    return render_template(
        "circuit.html",
        css=Markup(source("circuit.css")),
        picture=picture,
        layout=layout,
        row_names=[(name, layout.row_y(row)) for row, name in picture.row_names.items()],
        links=[(outlet(layout.nodes[a]), underside(layout.nodes[b])) for a, b in picture.links],
        lines=[_line(edge, layout) for edge in sorted(picture.edges, key=lambda e: e.width)],
        boxes=[_box(node, layout.nodes[node.name]) for node in picture.nodes],
        meaning=MEANING,
        thickest=THICKEST,
        has_ports=any(edge.port for edge in picture.edges),
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


def _line(edge: PictureEdge, layout: Layout) -> Mapping[str, object]:
    """A smooth line from node to node, with a head of its own."""
    *points, (x, y) = layout.paths[edge.name]
    size, half = arrow_size(edge.width)
    start, *rest = curve([*points, (x, y + size)])  # the line stops where its head begins
    d = f"M{start[0]:g} {start[1]:g}C" + " ".join(f"{x:g} {y:g}" for x, y in rest)
    head = f"{x:g},{y:g} {x - half:g},{y + size:g} {x + half:g},{y + size:g}"
    score = "" if edge.score is None else f": {edge.score:+.4g}"
    return {"edge": edge, "d": d, "head": head, "tip": edge.name + score}


def _box(node: PictureNode, middle: Point) -> Mapping[str, object]:
    """A node's rectangle with a cell for each input along its underside."""
    left, top = middle[0] - NODE_WIDTH / 2, middle[1] - NODE_HEIGHT / 2
    cell = (NODE_WIDTH - 2) / max(len(node.ports), 1)
    cells = [
        {"port": port, "x": left + 1 + i * cell, "y": top + NODE_HEIGHT - _CELL - 0.5,
         "width": cell, "height": _CELL}
        for i, port in enumerate(node.ports)
    ]  # fmt: skip
    return {
        "node": node,
        "x": left,
        "y": top,
        "width": NODE_WIDTH,
        "height": NODE_HEIGHT,
        "corner": _CORNER.get(node.kind, 14.0),
        "cells": cells,
        "text_y": middle[1] + (-1 if node.ports else 4),
        "tip": f"{node.name} ({_SAID[node.kind]})",
    }


_SAID = {
    "input": "embeddings",
    "head": "attention head",
    "kv": "shared key/value head",
    "mlp": "MLP",
    "logits": "output",
}
