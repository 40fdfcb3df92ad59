"""`FeatureView.build`: what a store, and the model where it is at hand, say of features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np

from sae_circuits._version import __version__
from sae_circuits.dashboards.model_effects import Model, Options
from sae_circuits.dashboards.numbers import short
from sae_circuits.dashboards.places import place_of
from sae_circuits.dashboards.profile import Counts, Profile
from sae_circuits.dashboards.profiles import Told, shown_tokens
from sae_circuits.dashboards.reading import rows_of, texts_of
from sae_circuits.dashboards.shown import Shown
from sae_circuits.dashboards.views import About, FeatureView
from sae_circuits.dashboards.windows import windows_of
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.progress import track

BLOCK = 64  # features whose effects are computed together
CHUNK = 1024  # features for which the model is run once
DENSITY_BINS = 40


def feature_view(
    features: FeatureDictionary,
    ids: Sequence[int | str] | None = None,
    options: Options | None = None,
    *,
    title: str | None = None,
) -> FeatureView:
    """A view of some features: see `FeatureView.build`."""
    asked = asked_features(features, ids)
    each = profiles(features, asked, options)
    found = tuple(track(each, total=len(asked), description="profiles"))
    texts = texts_of(features.database, shown_tokens(found))
    return FeatureView(about(features, title), texts, found)


def asked_features(
    features: FeatureDictionary, ids: Sequence[int | str] | None = None
) -> list[int]:
    """Ids of features that are asked for, by id or by name; of all that are not dead for None.

    Raises:
        UnknownName: no such feature.
    """
    if ids is not None:
        return features.ids([ids] if isinstance(ids, str | int) else list(ids))
    alive = "SELECT feature FROM features WHERE n_active > 0 ORDER BY feature"
    return features.database.columns(alive)["feature"].tolist()


def profiles(
    features: FeatureDictionary,
    ids: Sequence[int],
    options: Options | None = None,
    *,
    block: int = BLOCK,
) -> Iterator[Profile]:
    """Profiles of features, one after the other, in the order asked for.

    Args:
        ids: of the features; where they rise, each comes as soon as its block is done.
        options: what to say of them.
        block: features at a time; what is said of one does not hang on it.

    Raises:
        OptionError: see `FeatureView.build`.
    """
    model = Model.of(features, options or Options())
    for start in range(0, len(ids), CHUNK):
        asked = list(ids[start : start + CHUNK])
        rising = sorted(set(asked))
        found = _chunk(features, model, rising, block)
        if asked != rising:
            known = {one.feature: one for one in found}
            found = (known[i] for i in asked)
        yield from found


def _chunk(
    features: FeatureDictionary, model: Model, ids: list[int], block: int
) -> Iterator[Profile]:
    """Profiles of features whose ids rise."""
    rows = rows_of(features.database, ids)
    shown = Shown.of(features, ids, rows["examples"])
    work = model.over(features, shown)
    quantiles = None if shown is None else shown.quantiles()
    for start in range(0, len(ids), block):
        some = ids[start : start + block]
        own = rows["examples"].between(some[0], some[-1])
        part = rows["examples"].some(own)
        shares = None if quantiles is None else quantiles[own]
        more = {"quantiles": shares, **work.windows(some, own, part)}
        told = Told(rows, windows_of(part, more), features.contents)
        yield from map(work.with_effects, map(told.profile, some))


def about(features: FeatureDictionary, title: str | None = None) -> About:
    """Of what a view of some features is."""
    meta = features.database.meta()
    source, corpus = meta["source"], meta["corpus"]
    name = source.get("dictionary") or source.get("site") or source["kind"]
    density = features.database.columns("SELECT density FROM features")["density"]
    alive = density[density > 0]
    return About(
        title=title or f"Features of {name}",
        dictionary=name,
        model=source.get("model", {}).get("name", ""),
        corpus=corpus["name"],
        features=meta["features"],
        tokens=corpus["counted"],
        densities=_densities(alive),
        dead=int(meta["features"] - len(alive)),
        gap=meta["gap"],
        provenance={
            "store": identity(features),
            "source": source,
            "corpus": corpus,
            "masks": meta["masks"],
            "contents": meta["contents"],
            "version": __version__,
        },
        place=place_of(source.get("site", "")),
        neuronpedia=features.neuronpedia,
    )


def identity(features: FeatureDictionary) -> str:
    """A hash of all that decides what a store says, but for its labels."""
    meta = features.database.meta()
    said = [meta[key] for key in ("schema", "made", "contents", "source", "corpus", "version")]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _densities(alive: np.ndarray) -> Counts | None:
    if not len(alive):
        return None
    counts, edges = np.histogram(np.log10(alive), DENSITY_BINS)
    return Counts(tuple(short(edges)), tuple(counts.tolist()))
