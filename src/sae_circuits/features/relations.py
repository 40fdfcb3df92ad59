"""Which features go together: on the same tokens, on tokens alike, or in what they write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import unknown
from sae_circuits.features.analysis.tokens import token_counts
from sae_circuits.features.asked import (
    check_k,
    columns_of,
    require_decoder,
    require_features,
    require_same_tokens,
)
from sae_circuits.features.columns import Activity
from sae_circuits.features.decoders import nearest_decoders, unit_rows
from sae_circuits.features.frames import stacked, table
from sae_circuits.features.measures import MEASURES, require_measures
from sae_circuits.features.nearest import AT_ONCE, Neighbours, nearest, rank_of
from sae_circuits.features.numerics.sparse import Rows

if TYPE_CHECKING:
    import pandas


def correlations(
    activity: Activity,
    k: int = 10,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    other: Activity | None = None,
    features: Sequence[int] | None = None,
    at_once: int = AT_ONCE,
) -> pandas.DataFrame:
    """For each feature the k that go with it most, of all, over the counted tokens.

    Where a measure is undefined (pearson of a feature that is constant, all of one that is dead)
    the feature has no neighbours by it and is nobody's. No feature is its own neighbour. Features
    that are never active together are listed too, where there are no nearer ones: their `together`
    is 0.

    The numbers do not depend, in any bit, on how features are grouped. Work grows with the sum
    over tokens of the square of how many features are active there.

    Args:
        activity: of the features.
        k: how many neighbours of each.
        measures: some of "pearson", "cosine" and "jaccard" (of being active); see `measures.py`.
        other: neighbours are looked for among these instead: features of a second SAE, or neurons
            (`ArrayActivity`).
        features: only for these, in this order.
        at_once: how many activations are held at a time, on either side: what bounds memory.

    Returns:
        Columns `measure`, `feature`, `rank` (from 1), `other`, `value`, and `together`: on how
        many counted tokens both are active. Ties in `value` are ranked by the neighbour's id.

    Raises:
        OptionError: k below 1.
        UnknownName: no such measure, or no such feature.
        CorpusError: `other` is of another corpus, or counts other tokens.
    """
    measures = require_measures(measures)
    check_k(k)
    right = activity if other is None else require_same_tokens(activity, other)
    places, counted = activity.corpus.n_tokens, int(activity.counted.sum())
    groups = nearest(
        (Rows.of(some, places) for some in columns_of(activity, features)),
        lambda: (Rows.of(some, places) for some in right.blocks()),
        measures,
        k=k,
        n=counted,
        same=other is None,
        at_once=at_once,
    )
    return neighbours_table(groups, measures)


SIMILAR = ("decoder", "co-activation", "tokens")
"""What features can be similar in."""


def similar(
    activity: Activity,
    W_dec: Float[Tensor, "feature d_out"] | None = None,
    k: int = 10,
    *,
    by: Sequence[str] = SIMILAR,
    features: Sequence[int] | None = None,
    at_once: int = AT_ONCE,
) -> pandas.DataFrame:
    """For each feature the k most like it, of all.

    Args:
        activity: of the features.
        W_dec: what they write; only for "decoder".
        k: how many of each.
        by: some of

            - "decoder": cosine of decoder rows; none for a row of 0;
            - "co-activation": `correlations` by "jaccard";
            - "tokens": cosine of the vectors that say on how many counted tokens of each id a
              feature is active; none for a dead feature.
        features: only for these, in this order.
        at_once: how many activations are held at a time, on either side.

    Returns:
        Columns as `correlations` has them, with what they are similar in as `measure`. `together`
        is on how many counted tokens both are active; by "tokens", of how many ids; by "decoder" it
        is missing.

    Raises:
        OptionError: "decoder" without W_dec, or k below 1.
        UnknownName: no such kind of similarity, or no such feature.
        DictionaryError: W_dec is of other features, or not finite.
    """
    for name in by:
        if name not in SIMILAR:
            raise unknown("kind of similarity", name, SIMILAR)
    check_k(k)
    ids = require_features(features, activity.n_features)
    makers = {
        "decoder": lambda: _by_decoder(require_decoder(W_dec, activity), ids, k),
        "co-activation": lambda: correlations(
            activity, k, measures=["jaccard"], features=features, at_once=at_once
        ),
        "tokens": lambda: _by_tokens(activity, k, features, at_once),
    }
    if "decoder" in by:
        require_decoder(W_dec, activity)
    found = stacked([makers[name]().assign(measure=name) for name in dict.fromkeys(by)])
    return found.astype({"together": "Int64"})  # the one with missing values


def _by_decoder(
    W_dec: Float[Tensor, "feature d_out"], ids: Int64[np.ndarray, "some"], k: int
) -> pandas.DataFrame:
    units = unit_rows(W_dec)
    found = _table("decoder", nearest_decoders(units[ids], units, ids, k, same=True))
    return found.assign(together=np.nan)  # not known from decoders


def _by_tokens(
    activity: Activity, k: int, features: Sequence[int] | None, at_once: int
) -> pandas.DataFrame:
    corpus = activity.corpus
    groups = nearest(
        (token_counts(some, corpus).rows for some in columns_of(activity, features)),
        lambda: (token_counts(some, corpus).rows for some in activity.blocks()),
        ("cosine",),
        k=k,
        n=len(corpus.vocabulary),
        same=True,
        at_once=at_once,
    )
    return neighbours_table(groups, ("cosine",))


def neighbours_table(
    groups: Iterable[Mapping[str, Neighbours]], measures: Sequence[str]
) -> pandas.DataFrame:
    """The columns that `correlations` says, measure by measure."""
    every = list(groups)
    return stacked(_table(name, group[name]) for name in measures for group in every)


def _table(measure: str, found: Neighbours) -> pandas.DataFrame:
    return table(
        {
            "measure": [measure] * len(found),
            "feature": found.feature,
            "rank": rank_of(found.feature),
            "other": found.other,
            "value": found.value,
            "together": found.together,
        }
    )
