"""Two circuits of one graph side by side, every part in the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path

from sae_circuits.graph import Circuit
from sae_circuits.graph.nodes import Port
from sae_circuits.viz.layout import Layout, Point, arrow_size, curve, place, within_lines
from sae_circuits.viz.picture import (
    BLUE,
    BORDER,
    FILL,
    PORT_FILL,
    VERMILION,
    Picture,
    PictureEdge,
    PictureNode,
    width_of,
)  # fmt: skip
from sae_circuits.viz.pictures import picture, strongest
from sae_circuits.viz.plots.style import GREY, INK, NORMAL, SMALL, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMMON, FAINT = INK, "#C9CED6"
DASHES: Mapping[Port | None, tuple[float, ...]] = {"k": (4, 2), "v": (1, 1.5)}
WIDEST, POINT = 7.0, 1 / 72  # inches of a panel, and of a point of the layout
PORT_HEIGHT = 11.0


@dataclass(frozen=True)
class _Panel:
    """One circuit in the layout of both; `scale` is the size of the layout's point on paper."""

    circuit: Circuit
    edges: frozenset[str]
    nodes: frozenset[str]
    colour: str
    common: frozenset[str]
    scale: float


def side_by_side(
    left: Circuit,
    right: Circuit,
    *,
    names: tuple[str, str] | None = None,
    max_edges: int = 500,
) -> Figure:
    """Draw two circuits of one graph side by side, every part in the same place.

    Edges in both are dark, those in the left one alone blue, in the right one alone orange; parts
    that a circuit does not have are faint in it. Width grows with the size of an edge's score, in
    each circuit by itself, since the two may have other units.

    Args:
        names: of the two; by default the methods of their scores.
        max_edges: of each circuit, where it has more, only those with the largest scores are drawn,
            and its title says so.

    Raises:
        GraphError: circuits of different graphs.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task, graph = sc.tasks.ioi(model, n=8, seed=0), sc.TensorGraph.from_model(model)
        >>> found = [
        ...     sc.prune.top_n(sc.attribute(model, graph, task, method=name), 20)
        ...     for name in ("eap", "eap-ig")
        ... ]
        >>> figure = sc.viz.side_by_side(*found)
        >>> [axes.get_title("left").partition(":")[0] for axes in figure.axes]
        ['eap', 'eap-ig']
    """
    left.graph.require_same(right.graph, "the second circuit")
    both = (left, right)
    names = names or (_method(left, "left"), _method(right, "right"))
    shown = [torch.isin(torch.arange(c.graph.n_edges), strongest(c, max_edges)) for c in both]
    union = Circuit(left.graph, shown[0] | shown[1])
    drawn = picture(union, title="", max_edges=len(union))
    layout = place(drawn)
    figure, scale = _figure(layout)
    common = _names(left.with_mask(left.mask & right.mask), drawn)
    for axes, circuit, name, colour in zip(
        figure.axes, both, names, (BLUE, VERMILION), strict=True
    ):
        edges = _names(circuit, drawn)
        nodes = {end for edge in drawn.edges if edge.name in edges for end in (edge.src, edge.dest)}
        panel = _Panel(circuit, edges, frozenset(nodes), colour, common, scale)
        _draw(axes, panel, drawn, layout)
        cut = "" if len(circuit) <= max_edges else f", the {max_edges:,} strongest drawn"
        axes.set_title(
            f"{name}: {len(circuit):,} edges{cut}", loc="left", fontsize=NORMAL + 1, color=INK
        )
    n_common = len(left & right)
    _legend(figure, drawn, names, (n_common, len(left) - n_common, len(right) - n_common))
    return figure


def _figure(layout: Layout) -> tuple[Figure, float]:
    """Two empty panels of the layout's size, no wider than fits a page."""
    scale = min(POINT, WIDEST / layout.width)
    width, height = 2 * scale * layout.width + 0.3, scale * layout.height + 1.0
    figure = Plot((max(width, 6.0), height), layout="constrained")
    for axes in figure.subplots(1, 2):
        axes.set(xlim=(0, layout.width), ylim=(max(layout.height, 1.0), 0), aspect="equal")
        axes.set_axis_off()
    return figure, scale


def _method(circuit: Circuit, default: str) -> str:
    return (circuit.scores.provenance.method if circuit.scores else "") or default


def _names(circuit: Circuit, drawn: Picture) -> frozenset[str]:
    """The drawn edges that a circuit has."""
    has = {edge.name for edge in circuit.edges}
    return frozenset(edge.name for edge in drawn.edges if edge.name in has)


# -- one panel -------------------------------------------------------------------------------------


def _draw(axes: Axes, panel: _Panel, drawn: Picture, layout: Layout) -> None:
    widths = _widths(panel)
    own = [edge for edge in drawn.edges if edge.name in panel.edges]
    for edge in sorted(own, key=lambda edge: widths[edge.name]):  # the strongest on top
        _draw_edge(axes, panel, edge, widths[edge.name], layout)
    parts = {node.name: node for node in drawn.nodes}
    links = [(low, high, curve([layout.outlet(low), layout.inlet(parts[high])]))
             for low, high in drawn.links]  # fmt: skip
    for low, high, control in (*links, *within_lines(drawn, layout)):
        here = {low, high} <= panel.nodes
        width = 0.8 * panel.scale / POINT
        _line(axes, control, GREY if here else FAINT, width, (1, 1.5))
    for node in drawn.nodes:
        _draw_node(axes, panel, node, layout)
    for row, name in drawn.row_names.items():
        axes.text(8, layout.row_y(row), name, fontsize=_size(panel, 9), color=GREY, va="center")


def _widths(panel: _Panel) -> dict[str, float]:
    """The width of each edge in points, by its score in this circuit."""
    names = [edge.name for edge in panel.circuit.edges]
    scores = panel.circuit.scores
    if scores is None:
        return dict.fromkeys(names, width_of(None, None))
    values = scores.values[panel.circuit.mask].double().tolist()
    largest = max(map(abs, values), default=None)
    return {name: width_of(value, largest) for name, value in zip(names, values, strict=True)}


def _draw_edge(axes: Axes, panel: _Panel, edge: PictureEdge, width: float, layout: Layout) -> None:
    """A line and its head, which points upwards."""
    colour = COMMON if edge.name in panel.common else panel.colour
    length, half = arrow_size(width)
    line = _line(
        axes, layout.control(edge.name, length), colour, width * panel.scale / POINT,
        DASHES.get(edge.port),
    )  # fmt: skip
    line.set_gid(edge.name)
    x, y = layout.paths[edge.name][-1]
    head = [(x, y), (x - half, y + length), (x + half, y + length)]
    axes.add_patch(Polygon(head, facecolor=colour, edgecolor="none", zorder=1))


def _line(
    axes: Axes, control: Sequence[Point], colour: str, width: float, dashes: tuple | None
) -> PathPatch:
    """A smooth line along the control points of Bezier curves."""
    codes = [Path.MOVETO, *[Path.CURVE4] * (len(control) - 1)]
    style = "solid" if dashes is None else (0, dashes)
    line = PathPatch(
        Path(control, codes), facecolor="none", edgecolor=colour, lw=width, ls=style, alpha=0.9,
        capstyle="butt", zorder=1,
    )  # fmt: skip
    axes.add_patch(line)
    return line


def _draw_node(axes: Axes, panel: _Panel, node: PictureNode, layout: Layout) -> None:
    """A box with its name, and below it one cell for each input."""
    (x, y), box = layout.nodes[node.name], layout.boxes[node.name]
    here = node.name in panel.nodes
    left, top = x - box.width / 2, y - box.height / 2
    ink, border = (INK, BORDER.get(node.kind, INK)) if here else (FAINT, FAINT)
    rounding = 0 if node.ports else 5
    axes.add_patch(
        FancyBboxPatch(
            (left + rounding, top + rounding), box.width - 2 * rounding, box.height - 2 * rounding,
            boxstyle=f"round,pad={rounding},rounding_size={rounding}",
            facecolor=FILL[node.kind] if here else "white", edgecolor=border,
            lw=panel.scale / POINT, ls="--" if node.kind == "error" else "-", zorder=2,
        )
    )  # fmt: skip
    below = PORT_HEIGHT if node.ports else 0.0
    weight = "bold" if node.kind in ("input", "logits") else "normal"
    text = axes.text(
        x, y - below / 2, node.text, fontsize=_size(panel, box.letters), color=ink, ha="center",
        va="center", weight=weight, zorder=4,
    )  # fmt: skip
    text.set_gid(node.name)
    cell = box.width / max(len(node.ports), 1)
    for i, port in enumerate(node.ports):
        corner = left + i * cell, y + box.height / 2 - PORT_HEIGHT
        fill = PORT_FILL if here else "white"
        axes.add_patch(
            Rectangle(corner, cell, PORT_HEIGHT, facecolor=fill, edgecolor="none", zorder=3)
        )
        axes.text(
            corner[0] + cell / 2, corner[1] + PORT_HEIGHT / 2, port, fontsize=_size(panel, 7),
            color=GREY if here else FAINT, ha="center", va="center_baseline", zorder=4,
        )  # fmt: skip


def _size(panel: _Panel, letters: float) -> float:
    """Letters of the layout's points in points of the paper; DejaVu runs wider than Helvetica."""
    return 0.88 * letters * panel.scale / POINT


def _legend(
    figure: Figure, drawn: Picture, names: tuple[str, str], counts: tuple[int, int, int]
) -> None:
    """What the colours mean, and the styles of lines."""
    said = ("in both", f"in {names[0]} alone", f"in {names[1]} alone")
    handles = [
        Line2D([], [], color=colour, lw=3, label=f"{what} ({n:,})")
        for what, colour, n in zip(said, (COMMON, BLUE, VERMILION), counts, strict=True)
    ]
    ports = {edge.port for edge in drawn.edges}
    handles += [
        Line2D([], [], color=GREY, lw=1.2, ls=(0, DASHES[port]), label=f"into {port}")
        for port in ("k", "v")
        if port in ports
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False,
        fontsize=SMALL, labelcolor=INK, handlelength=2.4,
    )  # fmt: skip
