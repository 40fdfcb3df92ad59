"""A view as one HTML page: data as escaped JSON, style and script inside, no network.

The script reads a feature's JSON when it is first shown. Text from data reaches the page as text:
escaped by jinja2, in JSON without `<`, `>` and `&`, or set as text content by the script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from markupsafe import Markup

from sae_circuits.dashboards.layout import READY, Layout, as_layout
from sae_circuits.dashboards.places import link_data
from sae_circuits.dashboards.view_file import dumped, plain
from sae_circuits.viz.pages import page, render_template, source

if TYPE_CHECKING:
    from sae_circuits.dashboards.listed import Listed
    from sae_circuits.dashboards.profile import Profile
    from sae_circuits.dashboards.views import FeatureView

SCRIPTS = (
    "base", "profile", "histogram", "tokens", "examples", "connections", "panels", "table", "page"
)  # fmt: skip
NUMBERS = ("density", "n_active", "max", "mean_active", "importance")
N_TOKENS = 8  # of each kind, by which a feature is found
FRAME_HEIGHT = 720

_RISKY = re.compile("[<>&\u2028\u2029]")  # what HTML or an old script takes for something else


def feature_page(
    view: FeatureView,
    layout: Layout | str | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """The page of a view of features.

    Args:
        layout: of each feature's page: a layout, or the name of a ready one; "feature" by default.
        links: by place or name of another dictionary, the address of a page of its features.

    Raises:
        UnknownName: no such layout.
        OptionError: an address that can be none.
    """
    return dashboard_page(
        view.about,
        {
            **layout_data(layout),
            "texts": view.texts,
            "index": index_columns(view.profiles),
            **others_of(view, links),
        },
        view.profiles,
    )


def others_of(view: FeatureView, links: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a page says of features that it has not, and where they are, if anything.

    Raises:
        OptionError: an address that can be none.
    """
    among = {near.among for profile in view.profiles for near in profile.neighbours}
    places = link_data(links, view.hosted, view.about.neuronpedia, sorted(among))
    return others_data(places, view.listed)


def others_data(
    places: Mapping[str, Mapping[str, str]], listed: Sequence[Listed] = ()
) -> dict[str, Any]:
    """Addresses by place, and what is listed by name, for the script; nothing where none are."""
    known = {one.name: plain(one) for one in listed}
    return {name: one for name, one in (("places", places), ("listed", known)) if one}


@runtime_checkable
class Titled(Protocol):
    """Of what a page is: its title, its first line, and how it was made."""

    @property
    def title(self) -> str:
        """Of the page."""
        ...

    @property
    def line(self) -> str:
        """What stands above it."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Names and values, for the page's foot."""
        ...


def dashboard_page(
    about: Titled,
    data: Mapping[str, Any],
    profiles: Iterable[Profile] = (),
    *,
    scripts: Sequence[str] = SCRIPTS,
    styles: Sequence[str] = ("page",),
    libraries: Sequence[str] = (),
) -> str:
    """A page of the dashboards' script.

    Args:
        data: by name, what `dashboard.data(name)` gives the script; `about` is added.
        profiles: what `dashboard.profile(id)` gives.
        scripts: files of the folder of templates, in order; the last one has `dashboard.start`.
        styles: likewise.
        libraries: files of others' in the folder `vendor`, which the scripts use.
    """
    own = "".join(_lean(source(f"dashboard/{name}.js")) for name in scripts)
    body = render_template(
        "dashboard/page.html",
        about=about,
        data={name: script_json(one) for name, one in {"about": plain(about), **data}.items()},
        profiles={one.feature: script_json(plain(one)) for one in profiles},
        script=Markup("".join(source(f"vendor/{name}") for name in libraries) + own),
    )
    return page(about.title, body, "".join(source(f"dashboard/{name}.css") for name in styles))


def _lean(script: str) -> str:
    """A script without the lines that are comments alone, and without indentation."""
    lines = (line.strip() for line in script.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))


def layout_data(layout: Layout | str | None, usual: str = "feature") -> dict[str, Any]:
    """The layout that was chosen, and the ready ones by name, for the script."""
    return {
        "layout": asdict(as_layout(layout, usual)),
        "layouts": {name: asdict(Layout.ready(name)) for name in READY},
    }


def index_columns(profiles: Sequence[Profile]) -> dict[str, list[Any]]:
    """What the table of features shows and searches, as columns."""
    found = {
        "feature": [one.feature for one in profiles],
        "name": [one.name for one in profiles],
        "label": [one.label for one in profiles],
        "type": [one.statistics.get("type") for one in profiles],
        "tokens": [_tokens(one) for one in profiles],
    }
    return {**found, **{n: [one.statistics.get(n) for one in profiles] for n in NUMBERS}}


def _tokens(profile: Profile) -> list[int]:
    """Tokens by which a feature is found: those it fires on, and those it makes likely."""
    kinds = (profile.firing.ids, profile.top.ids)
    return list(dict.fromkeys(i for ids in kinds for i in ids[:N_TOKENS]))


def script_json(value: Any) -> Markup:
    r"""JSON that may stand in a script: nothing in it ends the script or begins a comment.

    Raises:
        ValueError: there is NaN or infinity in it.

    >>> print(script_json({"text": "</script>"}))
    {"text":"\u003c/script\u003e"}
    """
    return Markup(_RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", dumped(value)))


def frame(html: str, title: str, height: int = FRAME_HEIGHT) -> Markup:
    """A page inside another one, in a frame that shares neither style nor script with it."""
    return render_template("dashboard/frame.html", page=html, title=title, height=height)
