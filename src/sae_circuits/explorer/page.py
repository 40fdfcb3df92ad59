"""The explorer as one HTML page: the view as escaped JSON, Cytoscape.js and script inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sae_circuits.dashboards.page import dashboard_page
from sae_circuits.dashboards.view_file import plain
from sae_circuits.viz.picture import SAID

if TYPE_CHECKING:
    from sae_circuits.explorer.view import CircuitView

SCRIPTS = (
    "base", "tokens", *(f"explorer/{name}" for name in (
        "model", "layered", "places", "canvas", "panel", "curve", "export", "controls", "app"
    ))
)  # fmt: skip


def explorer_page(view: CircuitView) -> str:
    """The page of a circuit."""
    kinds = {part.kind for part in view.parts}
    names = {kind: said for kind, said in SAID.items() if kind in kinds | {"group"}}
    return dashboard_page(
        view.about,
        {"view": {**plain(view), "names": names}, "texts": view.texts},
        scripts=SCRIPTS,
        styles=("page", "explorer"),
        libraries=("cytoscape.min.js",),
    )
