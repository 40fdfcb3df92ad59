"""The page of a prompt, with all that it shows inside."""

from __future__ import annotations

from sae_circuits.dashboards.layout import Layout
from sae_circuits.dashboards.page import dashboard_page, index_columns, layout_data
from sae_circuits.dashboards.view_file import plain
from sae_circuits.dashboards.views import PromptView

SCRIPTS = ("base", "profile", "histogram", "tokens", "examples", "panels", "prompt")


def prompt_page(
    view: PromptView, layout: Layout | str | None = None, features: str | None = None
) -> str:
    """The page of a view of a prompt.

    Args:
        layout: of each feature's panel: a layout, or the name of a ready one; "prompt" by default.
        features: the address of a page of features, to which a feature's panel has a link.

    Raises:
        UnknownName: no such layout.
    """
    held = view.view
    own = {name: one for name, one in plain(view).items() if name != "view"}
    data = {
        **layout_data(layout, "prompt"),
        "texts": held.texts,
        "index": index_columns(held.profiles),
        "prompt": own,
        "more": features,
    }
    styles = ("page", "prompt")
    return dashboard_page(held.about, data, held.profiles, scripts=SCRIPTS, styles=styles)
