"""`Listed`: what a page says of a feature that it lists and that has no panels on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_circuits.dashboards.numbers import DIGITS, short
from sae_circuits.dashboards.places import Hosted, require_place
from sae_circuits.dashboards.profile import Counts
from sae_circuits.errors import GraphError, OptionError
from sae_circuits.graph import parse_node

if TYPE_CHECKING:
    from sae_circuits.features.dictionary import FeatureDictionary

N_TOKENS = 5  # by which it is found


@dataclass(frozen=True)
class Listed:
    """A feature, in short.

    Args:
        name: such as "m0.f17".
        label: the best, if it has one.
        activations: histogram of active values; None of a dead feature.
        tokens: on which it fires most often, as people read them.
    """

    name: str
    label: str | None = None
    activations: Counts | None = None
    tokens: tuple[str, ...] = ()


def listed(
    names: Iterable[str], stores: Mapping[str, FeatureDictionary] | None
) -> tuple[Listed, ...]:
    """What stores say of features, in the order of the stores and of ids.

    Args:
        names: of nodes; those that no store tells of are passed over.
        stores: by place, such as "m0" or "mlp_out.0".

    Raises:
        OptionError: a place that is none; a feature that the store of its place lacks.
    """
    every = tuple(names)
    return tuple(
        one
        for site, store in (stores or {}).items()
        for one in _of_store(require_place(site), store, every)
    )


def _of_store(place: str, store: FeatureDictionary, names: tuple[str, ...]) -> list[Listed]:
    ids = sorted({i for name in names if (i := _index(name, place)) is not None})
    if not ids:
        return []
    if ids[-1] >= len(store):
        raise OptionError(
            f"{place}.f{ids[-1]} is no feature of {store!r}: give the store of the dictionary at "
            f"{place}"
        )
    labels, counts, tokens = _labels(store, ids), _counts(store, ids), _tokens(store, ids)
    return [
        Listed(f"{place}.f{i}", labels.get(i), counts.get(i), tuple(tokens.get(i, ()))) for i in ids
    ]


def hosted_by(stores: Mapping[str, FeatureDictionary] | None) -> dict[str, Hosted]:
    """Those of some stores' dictionaries that Neuronpedia hosts, by place."""
    found = {}
    for site, store in (stores or {}).items():
        if store.neuronpedia is not None:
            found[require_place(site)] = Hosted(require_place(site), store.neuronpedia)
    return found


def _index(name: str, place: str) -> int | None:
    try:
        node = parse_node(name)
    except GraphError:
        return None  # of one's own, such as "logit of Mary"
    return node.index if node.kind == "feature" and f"{node.site}{node.layer}" == place else None


def _labels(store: FeatureDictionary, ids: list[int]) -> dict[int, str]:
    rows = store.database.columns(
        "SELECT feature, text FROM best WHERE feature IN (SELECT unnest(?))", [ids]
    )
    return dict(zip(rows["feature"].tolist(), rows["text"].tolist(), strict=True))


def _counts(store: FeatureDictionary, ids: list[int]) -> dict[int, Counts]:
    rows = store.database.rows(
        """SELECT feature, edges, counts FROM distributions
           WHERE kind = 'histogram' AND feature IN (SELECT unnest(?))""",
        [ids],
    )
    return {
        row["feature"]: Counts(tuple(short(np.array(row["edges"]), DIGITS)), tuple(row["counts"]))
        for row in rows
    }


def _tokens(store: FeatureDictionary, ids: list[int]) -> dict[int, list[str]]:
    rows = store.database.columns(
        """SELECT feature, text FROM feature_tokens JOIN tokens USING (token)
           WHERE feature IN (SELECT unnest(?)) ORDER BY feature, rank""",
        [ids],
    )
    found: dict[int, list[str]] = {}
    for feature, text in zip(rows["feature"].tolist(), rows["text"].tolist(), strict=True):
        found.setdefault(feature, []).append(text)
    return {feature: texts[:N_TOKENS] for feature, texts in found.items()}
