"""At which positions of a prompt features are active."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from sae_circuits.features.asked import columns_of
from sae_circuits.features.columns import Activity, Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.frames import stacked, table

if TYPE_CHECKING:
    import pandas


def position_counts(columns: Columns, corpus: Corpus) -> Int64[np.ndarray, "feature pos"]:
    """On how many tokens at each position each feature is active."""
    n = corpus.longest
    keys = columns.owner * n + corpus.positions[columns.places]
    return np.bincount(keys, minlength=len(columns) * n).reshape(len(columns), n)


def position_profile(
    activity: Activity, *, features: Sequence[int] | None = None
) -> pandas.DataFrame:
    """For each feature and each position with a counted token, how often it is active there.

    Returns:
        Columns `feature`, `position`, `n` (on how many counted tokens there it is active),
        `counted` (how many there are), and `share` (`n` over `counted`).

    Raises:
        UnknownName: a feature that is not there.
    """
    corpus = activity.corpus
    counted = np.bincount(corpus.positions[activity.counted], minlength=corpus.longest)
    held = np.flatnonzero(counted)

    def profile(columns: Columns) -> pandas.DataFrame:
        active = position_counts(columns, corpus)[:, held].ravel()
        each = np.tile(counted[held], len(columns))
        return table(
            {
                "feature": np.repeat(columns.features, len(held)),
                "position": np.tile(held, len(columns)),
                "n": active,
                "counted": each,
                "share": active / each,
            }
        )

    return stacked(map(profile, columns_of(activity, features)))
