"""The page of a prompt, with all that it shows inside."""

from __future__ import annotations

from collections.abc import Mapping

from sae_circuits.dashboards.layout import Layout
from sae_circuits.dashboards.page import dashboard_page, index_columns, layout_data, others_of
from sae_circuits.dashboards.prompt_view import PromptView
from sae_circuits.dashboards.view_file import plain

SCRIPTS = ("base", "profile", "histogram", "tokens", "examples", "connections", "panels", "prompt")


def prompt_page(
    view: PromptView,
    layout: Layout | str | None = None,
    features: str | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """The page of a view of a prompt.

    Args:
        layout: of each feature's panel: a layout, or the name of a ready one; "prompt" by default.
        features: the address of a page of features, to which a feature's panel has a link.
        links: by place or name of another dictionary, the address of a page of its features.

    Raises:
        UnknownName: no such layout.
        OptionError: an address that can be none.
    """
    held = view.view
    own = {name: one for name, one in plain(view).items() if name != "view"}
    data = {
        **layout_data(layout, "prompt"),
        "texts": held.texts,
        "index": index_columns(held.profiles),
        "prompt": own,
        "more": features,
        **others_of(held, links),
    }
    styles = ("page", "prompt")
    return dashboard_page(held.about, data, held.profiles, scripts=SCRIPTS, styles=styles)
