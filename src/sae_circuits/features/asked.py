"""What is asked of activity, checked before any work: which features, how many, which tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from sae_circuits.errors import CorpusError, DictionaryError, OptionError, UnknownName
from sae_circuits.features.columns import Activity, Columns

Features = int | Sequence[int] | Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."] | None
"""Ids of features, in any order; all of them for None."""

SOME = 1024  # features read at a time where only some are asked for


def check_k(k: int, name: str = "k") -> None:
    """Refuse less than one.

    Raises:
        OptionError: with the number.
    """
    if k < 1:
        raise OptionError(f"{name} is {k}: ask for at least 1")


def feature_ids(features: Features, n_features: int) -> Int64[np.ndarray, "feature"]:
    """Ids as they are asked for, in an array; all of them for None.

    Raises:
        UnknownName: an id that is not there.
        OptionError: what is no id.
    """
    if features is None:
        return np.arange(n_features)
    asked = features.cpu().numpy() if isinstance(features, Tensor) else np.asarray(features)
    if asked.size and asked.dtype.kind not in "iu":
        raise OptionError(f"features are {asked.dtype}: give their ids, as whole numbers")
    ids = asked.reshape(-1).astype(np.int64)
    wrong = ids[(ids < 0) | (ids >= n_features)]
    if len(wrong):
        raise UnknownName(f"no feature {wrong[0]}: there are {n_features:,}, 0 to {n_features - 1}")
    return ids


def require_features(features: Features, n_features: int) -> Int64[np.ndarray, "feature"]:
    """`feature_ids` of which none comes twice.

    Raises:
        UnknownName: an id that is not there.
        OptionError: one that comes twice, or what is no id.
    """
    ids = feature_ids(features, n_features)
    different, counts = np.unique(ids, return_counts=True)
    if len(different) < len(ids):
        raise OptionError(f"feature {different[counts > 1][0]} is asked for twice")
    return ids


def columns_of(activity: Activity, features: Features) -> Iterator[Columns]:
    """Activations of these features, in this order, or of all.

    Raises:
        UnknownName, OptionError: see `require_features`; at the call.
    """
    if features is None:
        return activity.blocks()
    ids = require_features(features, activity.n_features)
    if not len(ids):
        raise OptionError("no feature is asked for: give one or more, or None for all")
    return (activity.columns(ids[i : i + SOME]) for i in range(0, len(ids), SOME))


def require_same_tokens(activity: Activity, other: Activity) -> Activity:
    """The second, if it counts the same tokens of the same corpus.

    Raises:
        CorpusError: it does not.
    """
    mine, its = activity.corpus, other.corpus
    if mine is not its and mine.fingerprint != its.fingerprint:
        raise CorpusError(f"{mine!r} and {its!r} differ: extract both from one corpus")
    differ = int((activity.counted != other.counted).sum())
    if differ:
        raise CorpusError(
            f"the two count other tokens of {mine!r}: they differ in {differ:,}; extract both "
            "with the same masks"
        )
    return other


def require_decoder(
    W_dec: Float[Tensor, "feature d_out"] | None, activity: Activity
) -> Float[Tensor, "feature d_out"]:
    """Decoder rows, if they are those of the features whose activity this is.

    Raises:
        OptionError: there are none.
        DictionaryError: they are more or fewer.
    """
    if W_dec is None:
        raise OptionError("decoders are asked for: pass the dictionary's")
    if len(W_dec) != activity.n_features:
        raise DictionaryError(
            f"W_dec has {len(W_dec):,} rows, and there is activity of {activity.n_features:,} "
            "features: both have to be of one dictionary"
        )
    return W_dec
