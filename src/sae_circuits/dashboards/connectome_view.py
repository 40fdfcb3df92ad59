"""`ConnectomeView`: what drives some features, and what they drive, for one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_circuits.dashboards.connected import Connected, Differing
from sae_circuits.dashboards.listed import Listed
from sae_circuits.dashboards.places import Hosted
from sae_circuits.disk.atomic import write_whole

if TYPE_CHECKING:
    from sae_circuits.dashboards.gathered import Measured
    from sae_circuits.features.dictionary import FeatureDictionary


@dataclass(frozen=True)
class Drawn:
    """Of what a connectome is.

    Args:
        title: of the page.
        model: its name.
        methods: by which connections were found.
        provenance: versions and hashes of what decides the content.
    """

    title: str
    model: str
    methods: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def line(self) -> str:
        """What a page's first line says of it."""
        return " · ".join(one for one in (self.model, ", ".join(self.methods)) if one)


@dataclass(frozen=True)
class Target:
    """A feature in the middle.

    Args:
        name: such as "m3.f17".
        connections: what drives it ("up") and what it drives ("down"), by each method.
        differing: those about which two methods disagree.
    """

    name: str
    connections: tuple[Connected, ...]
    differing: tuple[Differing, ...] = ()


@dataclass(frozen=True)
class ConnectomeView:
    """Connections of some features, as a page shows them: one in the middle at a time.

    Args:
        about: of what.
        targets: the features that can stand in the middle.
        listed: these, and those that they are connected with, as far as stores tell of them.
        hosted: dictionaries that Neuronpedia hosts.
    """

    about: Drawn
    targets: tuple[Target, ...]
    listed: tuple[Listed, ...] = ()
    hosted: tuple[Hosted, ...] = ()

    @classmethod
    def build(
        cls,
        connections: Measured | Sequence[Any],
        *,
        targets: Sequence[str] | None = None,
        stores: Mapping[str, FeatureDictionary] | None = None,
        n: int = 50,
        title: str | None = None,
    ) -> ConnectomeView:
        """Put together what is known of some features' connections.

        What drives a feature comes from connections to it, and from virtual weights into it. What
        it drives comes from connections to other targets of which it is an upstream feature, and
        from virtual weights of it.

        Args:
            connections: what `sae_circuits.connections` finds of one target or of several, by one
                method or by several; virtual weights.
            targets: names of the features that can stand in the middle, such as "m3.f17"; by
                default the targets of the connections.
            stores: by place, such as "m0" or "mlp_out.0", stores of the dictionaries, for labels,
                histograms and tokens.
            n: how many connections to show of each method and direction.
            title: of the page.

        Raises:
            OptionError: no target; a target of which nothing is said; two values of one connection
                by the same method; a store of another dictionary; n below 1.
            GraphError: a target's name that is none, or a feature that its dictionary lacks.

        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> found = sc.connections(model, "post1.f228", saes, task)
        >>> sc.ConnectomeView.build(found, n=5)
        ConnectomeView(1 feature in the middle, 5 connections by total (zero))
        """
        from sae_circuits.dashboards.connectome import connectome_view

        return connectome_view(connections, targets, stores, n, title)

    def __repr__(self) -> str:
        n = len(self.targets)
        edges = sum(len(one.names) for target in self.targets for one in target.connections)
        of = f"{n:,} feature{'' if n == 1 else 's'} in the middle"
        return f"ConnectomeView({of}, {edges:,} connections by {', '.join(self.about.methods)})"

    def save(self, path: str | Path) -> Path:
        """Write it to a file of JSON; `load` reads it back.

        Raises:
            OutputError: the place cannot be written.
        """
        from sae_circuits.dashboards.view_file import save_view

        return save_view(self, path)

    @classmethod
    def load(cls, path: str | Path) -> ConnectomeView:
        """Read what `save` wrote, which gives an equal view.

        Raises:
            FileFormatError: no such file, a damaged one, one of another kind, or of a newer
                version.
        """
        from sae_circuits.dashboards.view_file import load_view

        return load_view(path, cls)

    def render(self, path: str | Path, *, links: Mapping[str, str] | None = None) -> Path:
        """Write it as one HTML page that needs no network.

        Args:
            links: by place of a dictionary, such as "m0" or "mlp_out.0", the address of a page of
                its features, such as "../m0/index.html": a click on a feature that cannot stand in
                the middle leads there.

        Raises:
            OptionError: an address that can be none of a page.
            OutputError: the place cannot be written.
        """
        from sae_circuits.dashboards.connectome_page import connectome_page

        return write_whole(path, connectome_page(self, links))

    def _repr_html_(self) -> str:
        from sae_circuits.dashboards.connectome_page import connectome_page
        from sae_circuits.dashboards.page import frame

        return str(frame(connectome_page(self), self.about.title))
