"""Pictures of circuits and graphs, plots of curves and scores, and pages that show them.

Plots need matplotlib, which is imported when the first of them is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sae_circuits.viz.folder import save_report
from sae_circuits.viz.picture import Picture, PictureEdge, PictureNode
from sae_circuits.viz.pictures import graph_picture, picture
from sae_circuits.viz.render import circuit_html, render

if TYPE_CHECKING:
    from sae_circuits.viz.plots import (
        plot_agreement,
        plot_curve,
        plot_node_scores,
        plot_score_groups,
    )

__all__ = [
    "Picture",
    "PictureEdge",
    "PictureNode",
    "circuit_html",
    "graph_picture",
    "picture",
    "plot_agreement",
    "plot_curve",
    "plot_node_scores",
    "plot_score_groups",
    "render",
    "save_report",
]


def __getattr__(name: str) -> Any:
    if name.startswith("plot_") and name in __all__:
        from sae_circuits.viz import plots

        return getattr(plots, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
