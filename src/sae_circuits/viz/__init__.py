"""Pictures of circuits and graphs, plots of curves and scores, and pages that show them.

Plots need matplotlib, which is imported when the first of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sae_circuits.errors import no_attribute
from sae_circuits.viz.picture import Picture, PictureEdge, PictureNode
from sae_circuits.viz.pictures import graph_picture, picture
from sae_circuits.viz.render import circuit_html, render

if TYPE_CHECKING:
    from sae_circuits.viz.plots import clusters, curves, heat_map, scatter, side_by_side, strengths

__all__ = [
    "Picture",
    "PictureEdge",
    "PictureNode",
    "circuit_html",
    "clusters",
    "curves",
    "graph_picture",
    "heat_map",
    "picture",
    "render",
    "scatter",
    "side_by_side",
    "strengths",
]


PLOTS = (
    "clusters",
    "curves",
    "heat_map",
    "scatter",
    "side_by_side",
    "strengths",
)  # which load matplotlib


def __getattr__(name: str) -> Any:
    if name in PLOTS:
        from sae_circuits.viz import plots

        return getattr(plots, name)
    raise no_attribute(__name__, name, __all__)
