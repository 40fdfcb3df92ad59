"""Views: what the pages show, frozen. Building them and drawing them are two steps.

A `FeatureView` is one feature or thousands. A `PromptView` (prompt_view.py) is one prompt, and the
features that do something at each of its tokens; a `ConnectomeView` (connectome_view.py) some
features, what drives them and what they drive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_circuits.dashboards.listed import Listed
from sae_circuits.dashboards.places import Hosted
from sae_circuits.dashboards.profile import Counts, Profile
from sae_circuits.disk.atomic import write_whole

if TYPE_CHECKING:
    from sae_circuits.dashboards.gathered import Found
    from sae_circuits.dashboards.layout import Layout
    from sae_circuits.features.dictionary import FeatureDictionary


@dataclass(frozen=True)
class About:
    """Of what a view is.

    Args:
        title: of the page.
        dictionary, model, corpus: their names.
        features: how many the dictionary has.
        tokens: how many counted tokens the corpus has.
        densities: histogram of log10 of the density of all features that are active at all.
        dead: how many are not.
        gap: what stands between two tokens of a text.
        provenance: hashes and versions of all that decides the content.
        place: what the names of the dictionary's features begin with, such as "m3".
        neuronpedia: the dictionary's id on Neuronpedia, where it is hosted there.
    """

    title: str
    dictionary: str
    model: str
    corpus: str
    features: int
    tokens: int
    densities: Counts | None
    dead: int
    gap: str
    provenance: Mapping[str, Any]
    place: str | None = None
    neuronpedia: str | None = None

    @property
    def line(self) -> str:
        """What a page's first line says of it."""
        of = f"{self.dictionary} · {self.model} · {self.corpus}"
        return f"{of}, {self.tokens:,} tokens · {self.features:,} features"


@dataclass(frozen=True)
class FeatureView:
    """Features as a page shows them.

    Args:
        about: of what.
        texts: of every token id that is shown, as people read it.
        profiles: the features, in the order asked for.
        listed: in short, those that these are connected with, as far as stores tell of them.
        hosted: dictionaries of those that Neuronpedia hosts.
    """

    about: About
    texts: Mapping[int, str]
    profiles: tuple[Profile, ...]
    listed: tuple[Listed, ...] = ()
    hosted: tuple[Hosted, ...] = ()

    @classmethod
    def build(
        cls,
        features: FeatureDictionary,
        ids: Sequence[int | str] | None = None,
        *,
        loss_effects: bool | None = None,
        ablation: bool = False,
        probes: Mapping[str, tuple[Any, Sequence[str]]] | None = None,
        hover: int = 5,
        title: str | None = None,
    ) -> FeatureView:
        """Gather all that is known of some features.

        Args:
            features: of a dictionary, on a corpus.
            ids: ids or names, in any order; by default of all that are not dead.
            loss_effects: direct effects on the tokens of the windows; by default where the store
                was built or loaded with its model, and they can be had.
            ablation: ablation loss effects too, by a run for each feature.
            probes: by name, directions in the residual stream, [d_model, class], and the names of
                the classes.
            hover: how many tokens to list that a feature helps most at a token, and hurts most.
            title: of the page.

        Raises:
            UnknownName: no such feature.
            OptionError: what needs the model without one, a probe of another width.
            NumericalError: weights or a stream that is not finite.
        """
        from sae_circuits.dashboards.build import feature_view
        from sae_circuits.dashboards.model_effects import Options

        options = Options(loss_effects, ablation, probes or {}, hover)
        return feature_view(features, ids, options, title=title)

    def __repr__(self) -> str:
        return f"FeatureView({len(self.profiles):,} features of {self.about.dictionary!r})"

    def save(self, path: str | Path) -> Path:
        """Write it to a file of JSON; `load` reads it back.

        Raises:
            OutputError: the place cannot be written.
        """
        from sae_circuits.dashboards.view_file import save_view

        return save_view(self, path)

    @classmethod
    def load(cls, path: str | Path) -> FeatureView:
        """Read what `save` wrote, which gives an equal view.

        Raises:
            FileFormatError: no such file, a damaged one, one of another kind, or of a newer
                version.
        """
        from sae_circuits.dashboards.view_file import load_view

        return load_view(path)

    def export(self, folder: str | Path, format: str, **options: Any) -> Path:
        """Write the features for another viewer: see `sae_circuits.dashboards.formats`.

        Args:
            folder: made where needed; files of other features that are there stay.
            format: "neuronpedia" or "circuit-tracer".
            options: of the format: `model` and `source`, or `layer`.

        Raises:
            UnknownName: no such format.
            OptionError: an option that the format does not have, or one that it needs.
            OutputError: the folder cannot be written.
        """
        from sae_circuits.dashboards.formats.export import export

        return export(self, folder, format, **options)

    def connect(
        self,
        connections: Mapping[int, Sequence[Found]],
        *,
        stores: Mapping[str, FeatureDictionary] | None = None,
        n: int = 20,
    ) -> FeatureView:
        """The same view with connections of its features, for the panel of that name.

        Args:
            connections: by feature, what says with what it is connected: what
                `sae_circuits.connections` finds of it, or of targets that it may drive; virtual
                weights from or to its dictionary; or lists of your own. Features that are left
                out keep theirs.
            stores: by place, such as "m0" or "mlp_out.0", stores of the dictionaries at the other
                ends, for labels and histograms.
            n: how many connections to show of each method and direction.

        Raises:
            UnknownName: a feature that is not in the view.
            OptionError: connections that say nothing of the feature; two values of one connection
                by the same method; a store of another dictionary.
        """
        from sae_circuits.dashboards.connect import connect

        return connect(self, connections, stores, n)

    def render(
        self,
        path: str | Path,
        *,
        layout: Layout | str | None = None,
        links: Mapping[str, str] | None = None,
    ) -> Path:
        """Write it as one HTML page that needs no network.

        Args:
            layout: which panels a feature's page shows: a layout, or the name of a ready one
                ("feature", which is the default, "prompt" or "compact").
            links: by place or name of another dictionary, such as "m0" or "mlp_out.0", the address
                of a page of its features, such as "../m0/index.html": those that are listed here
                have links to it.

        Raises:
            UnknownName: no such layout.
            OptionError: an address that can be none of a page.
            OutputError: the place cannot be written.
        """
        from sae_circuits.dashboards.page import feature_page

        return write_whole(path, feature_page(self, layout, links))

    def _repr_html_(self) -> str:
        from sae_circuits.dashboards.page import feature_page, frame

        return str(frame(feature_page(self), self.about.title))
