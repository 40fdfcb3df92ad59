"""How often features are active, and how much they write: types and importance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.features.asked import require_decoder
from sae_circuits.features.columns import Activity
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
            "type": [None if np.isnan(x) else type_of(x) for x in density.tolist()],
            "importance": importance,
            "share": importance / (total if total > 0 else np.nan),
        }
    )
