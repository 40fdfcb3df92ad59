"""How often features are active, and how much they write: types and importance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae_circuits.features.asked import require_decoder
from sae_circuits.features.columns import Activity, Columns
from sae_circuits.features.frames import table
from sae_circuits.features.numerics.sparse import Rows
from sae_circuits.features.statistics import type_of

if TYPE_CHECKING:
    import pandas


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
    lengths = row_lengths(require_decoder(W_dec, activity))
    n, n_tokens = int(activity.counted.sum()), activity.corpus.n_tokens
    counts, sizes = [], []
    for columns in activity.blocks():
        counts.append(columns.counts)
        sizes.append(mean_sizes(columns, n_tokens, n))
    density = np.concatenate(counts) / (n or np.nan)
    importance = np.concatenate(sizes) * lengths
    total = importance.sum()
    return table(
        {
            "feature": np.arange(activity.n_features),
            "density": density,
            "type": [None if np.isnan(x) else type_of(x) for x in density.tolist()],
            "importance": importance,
            "share": importance / (total if total > 0 else np.nan),
        }
    )


def mean_sizes(columns: Columns, n_tokens: int, n_counted: int) -> Float64[np.ndarray, "feature"]:
    """The mean of |a| of each feature over all counted tokens; NaN where there are none."""
    active = Rows.of(columns, n_tokens)
    return active.sums(np.abs(active.values)) / (n_counted or np.nan)


def row_lengths(W: Float[Tensor, "feature d_out"]) -> Float64[np.ndarray, "feature"]:
    """The length of what each feature writes, per unit of activation."""
    return torch.linalg.vector_norm(W.detach().double(), dim=1).cpu().numpy()
