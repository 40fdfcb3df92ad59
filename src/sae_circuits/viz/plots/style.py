"""What all plots share: one plot in the house's style, colours, units, and files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.figure import Figure

from sae_circuits.graph import NodeScores, Scores
from sae_circuits.viz.picture import BLUE, VERMILION
from sae_circuits.viz.picture import GREY as GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1f2937"
SMALL, NORMAL = 8, 9  # points
# Okabe and Ito's colours that show on white, each with a marker, so that they are told apart in
# grey too.
SERIES = (
    (BLUE, "o"), (VERMILION, "s"), ("#009E73", "^"), ("#CC79A7", "D"),
    ("#E69F00", "v"), ("#56B4E9", "P"), ("#000000", "X"),
)  # fmt: skip
_WHOLE = {"bbox_inches": "tight", "pad_inches": 0.1}  # a file holds all that is drawn


class Plot(Figure):
    """A figure that shows itself in a notebook.

    IPython learns to show figures when pyplot is imported, which nothing here does.
    """

    def _repr_png_(self) -> bytes:
        return png_of(self, dpi=90)


def axes_of(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of a size in inches with one plot in the house's style."""
    figure = Plot((width, height), layout="constrained")
    axes = figure.add_subplot()
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axes.tick_params(colors=INK, labelsize=SMALL, which="both")
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(INK)
        text.set_fontsize(NORMAL)
    return figure, axes


def unit_of(scores: Scores | NodeScores) -> str:
    """The scores' unit in brackets, where it is known."""
    return f" ({scores.provenance.metric})" if scores.provenance.metric else ""


def svg_of(figure: Figure) -> str:
    """A figure as inline SVG that takes the ink of the page around it, the same at every run."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sae-circuits"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None}, **_WHOLE)
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def png_of(figure: Figure, dpi: int = 160) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, **_WHOLE)
    return buffer.getvalue()
