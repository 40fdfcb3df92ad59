"""At which positions of a prompt features are active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from sae_circuits.features.asked import columns_of
from sae_circuits.features.columns import Activity, Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.frames import stacked, table

if TYPE_CHECKING:
    import pandas

CELLS = 2**21  # counts of a feature at a position that are held at a time


def counted_positions(activity: Activity) -> Int64[np.ndarray, "pos"]:
    """How many counted tokens stand at each position."""
    corpus = activity.corpus
    return np.bincount(corpus.positions[activity.counted], minlength=corpus.longest)


def position_rows(
    columns: Columns, corpus: Corpus, counted: Int64[np.ndarray, "pos"], *, zeros: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """The columns of `position_profile`, for some features at a time.

    Args:
        counted: from `counted_positions`.
        zeros: also of positions at which a feature is never active.
    """
    n, step = corpus.longest, max(1, CELLS // corpus.longest)
    for first in range(0, len(columns), step):
        some = columns[first : first + step]
        keys = some.owner * n + corpus.positions[some.places]
        active = np.bincount(keys, minlength=len(some) * n).reshape(len(some), n)
        owner, at = np.nonzero((active > 0) | zeros & (counted > 0))
        yield {
            "feature": some.features[owner],
            "position": at,
            "n": active[owner, at],
            "counted": counted[at],
            "share": active[owner, at] / counted[at],
        }


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
    corpus, counted = activity.corpus, counted_positions(activity)
    return stacked(
        table(rows)
        for columns in columns_of(activity, features)
        for rows in position_rows(columns, corpus, counted, zeros=True)
    )
