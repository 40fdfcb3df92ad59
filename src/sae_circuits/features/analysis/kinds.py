"""How often features are active, and how much they write: types, importance, lists."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from sae_circuits.errors import unknown
from sae_circuits.features.asked import require_decoder
from sae_circuits.features.columns import Activity
from sae_circuits.features.frames import table
from sae_circuits.features.numerics.sparse import Rows

if TYPE_CHECKING:
    import pandas

TYPES: MappingProxyType[str, float] = MappingProxyType(
    {"dead": 0.0, "ultra-sparse": 1e-4, "sparse": 1e-2, "moderate": 1e-1, "dense": np.inf}
)
"""Each type, and the density below which it lies; that of a dead feature is 0 itself."""


def feature_types(density: Float64[np.ndarray, "feature"]) -> Shaped[np.ndarray, "feature"]:
    """The type of each feature, from its share of active tokens; None where that is NaN.

    >>> feature_types(np.array([0.0, 1e-5, 1e-4, 0.05, 0.1])).tolist()
    ['dead', 'ultra-sparse', 'sparse', 'moderate', 'dense']
    """
    names, bounds = list(TYPES), list(TYPES.values())
    which = np.searchsorted(bounds[1:-1], density, side="right") + 1
    which = np.where(density == 0, 0, which)
    known = np.array(names, dtype=object)[which]
    return np.where(np.isnan(density), None, known)


def of_type(density: Float64[np.ndarray, "feature"], name: str) -> Int64[np.ndarray, "some"]:
    """The features of one type, such as "dead", in rising order.

    Raises:
        UnknownName: no such type.
    """
    if name not in TYPES:
        raise unknown("type of feature", name, TYPES)
    return np.flatnonzero(feature_types(density) == name)


def kinds(activity: Activity, W_dec: Float[Tensor, "feature d_out"]) -> pandas.DataFrame:
    """How often each feature is active, and how much it writes.

    The importance of a feature is the mean length of what it writes, over all counted tokens:

        importance_f = mean over tokens t of |a_tf| * norm(W_dec[f])

    in the unit of the site that it writes to. It is 0 for a dead feature.

    Returns:
        Columns `feature`, `density`, `type`, `importance` and `share` (of the sum of all features'
        importances). Without a counted token, numbers are NaN and types None.

    Raises:
        DictionaryError: other than one row for each feature.
    """
    lengths = (
        torch.linalg.vector_norm(require_decoder(W_dec, activity).detach().double(), dim=1)
        .cpu()
        .numpy()
    )
    n = int(activity.counted.sum()) or np.nan
    counts, sizes = [], []
    for columns in activity.blocks():
        active = Rows.of(columns, activity.corpus.n_tokens)
        counts.append(active.counts)
        sizes.append(active.sums(np.abs(active.values)))
    density = np.concatenate(counts) / n
    importance = np.concatenate(sizes) / n * lengths
    total = importance.sum()
    return table(
        {
            "feature": np.arange(activity.n_features),
            "density": density,
            "type": feature_types(density),
            "importance": importance,
            "share": importance / (total if total > 0 else np.nan),
        }
    )
