"""The page of a connectome: a feature in the middle, what drives it left, what it drives right."""

from __future__ import annotations

from collections.abc import Mapping

from sae_circuits.dashboards.connectome_view import ConnectomeView
from sae_circuits.dashboards.page import dashboard_page, others_data
from sae_circuits.dashboards.places import link_data
from sae_circuits.dashboards.view_file import plain

SCRIPTS = ("base", "histogram", "tokens", "connections", "connectome")


def connectome_page(view: ConnectomeView, links: Mapping[str, str] | None = None) -> str:
    """The page of a view of a connectome.

    Args:
        links: by place of a dictionary, the address of a page of its features.

    Raises:
        OptionError: an address that can be none.
    """
    data = {
        "targets": [plain(target) for target in view.targets],
        **others_data(link_data(links, view.hosted), view.listed),
    }
    return dashboard_page(view.about, data, scripts=SCRIPTS, styles=("page", "connectome"))
