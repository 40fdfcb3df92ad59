"""Curves, heat maps, scatters and circuits side by side: the only part that imports matplotlib.

Each function returns a `matplotlib.figure.Figure`, which knows no window and no global state;
`figure.savefig("curve.pdf")` writes it, and a notebook shows it by itself.
"""

from sae_circuits.viz.plots.beside import side_by_side
from sae_circuits.viz.plots.heat_maps import heat_map
from sae_circuits.viz.plots.of_clusters import clusters
from sae_circuits.viz.plots.over_sizes import curves
from sae_circuits.viz.plots.over_strengths import strengths
from sae_circuits.viz.plots.scatters import scatter
from sae_circuits.viz.plots.style import png_of, svg_of

__all__ = [
    "clusters",
    "curves",
    "heat_map",
    "png_of",
    "scatter",
    "side_by_side",
    "strengths",
    "svg_of",
]
