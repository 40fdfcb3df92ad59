"""Views: what the pages show, frozen. Building them and drawing them are two steps.

A `FeatureView` is one feature or thousands. A `PromptView` is one prompt, and the features that do
something at each of its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_circuits.dashboards.profile import Counts, Profile, Values

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass(frozen=True)
class FeatureView:
    """Features as a page shows them.

    Args:
        about: of what.
        texts: of every token id that is shown, as people read it.
        profiles: the features, in the order asked for.
    """

    about: About
    texts: Mapping[int, str]
    profiles: tuple[Profile, ...]

    @classmethod
    def build(
        cls,
        features: FeatureDictionary,
        ids: Sequence[int | str] | None = None,
        *,
        title: str | None = None,
    ) -> FeatureView:
        """Gather all that is known of some features.

        Args:
            features: of a dictionary, on a corpus.
            ids: ids or names, in any order; by default of all that are not dead.
            title: of the page.

        Raises:
            UnknownName: no such feature.
        """
        from sae_circuits.dashboards.build import feature_view

        return feature_view(features, ids, title=title)

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


@dataclass(frozen=True)
class Ranked:
    """A score at every position of a prompt: the features that have it, the largest first.

    Args:
        name: "activation", "quantile", "loss effect", "logit effect" or "attribution".
        unit: of its values, such as "nats"; "" for none.
        said: what it means, in a sentence.
        token: for the logit effect, the id of the token that was chosen.
        features: at each position; none where the score is undefined there.
    """

    name: str
    unit: str
    said: str
    features: tuple[Values, ...]
    token: int | None = None


@dataclass(frozen=True)
class PromptView:
    """A prompt as a page shows it.

    Args:
        view: of all features that some score ranks, each in a compact form.
        tokens: ids of the prompt.
        scores: by each score, the features at each position.
    """

    view: FeatureView
    tokens: tuple[int, ...]
    scores: tuple[Ranked, ...] = field(default=())
