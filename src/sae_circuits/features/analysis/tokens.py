"""On which tokens features are active."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from sae_circuits.features.asked import check_k, columns_of
from sae_circuits.features.columns import Activity, Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.frames import stacked, table
from sae_circuits.features.nearest import rank_of
from sae_circuits.features.numerics.sparse import Rows

if TYPE_CHECKING:
    import pandas


def token_counts(columns: Columns, corpus: Corpus) -> Rows:
    """For each feature, on how many tokens of each id it is active: one place for each id."""
    n = len(corpus.vocabulary)
    keys, counts = np.unique(columns.owner * n + corpus.tokens[columns.places], return_counts=True)
    starts = np.searchsorted(keys, np.arange(len(columns) + 1) * n).astype(np.int64)
    return Rows(columns.features, starts, keys % n, counts.astype(np.float64), n)


def token_entropy(columns: Columns, corpus: Corpus) -> Float64[np.ndarray, "feature"]:
    """How spread a feature is over token ids, in bits; NaN for a dead one.

        H = -sum over ids v of p_v log2 p_v

    with p_v the share of v among the counted tokens on which the feature is active.
    """
    counts = token_counts(columns, corpus)
    totals = counts.sums(counts.values)
    shares = counts.values / totals[counts.owner]
    entropy = 0.0 - counts.sums(shares * np.log2(shares))
    return np.where(totals > 0, entropy, np.nan)


def token_table(
    activity: Activity, k: int = 10, *, features: Sequence[int] | None = None
) -> pandas.DataFrame:
    """For each feature, the k token ids on which it is active most often; ties by id.

    Returns:
        Columns `feature`, `rank` (from 1), `token` (its id), `text`, `count` (of the counted tokens
        with this id, on how many it is active), `share` (`count` over the tokens on which it is
        active), `recall` (`count` over the counted tokens with this id), and `lift` (`share` over
        this id's share of all counted tokens).

    Raises:
        OptionError: k below 1, or a feature that is not there.
    """
    check_k(k)
    occurrences = counted_tokens(activity)
    groups = columns_of(activity, features)
    return stacked(
        _token_table(token_counts(c, activity.corpus), activity, occurrences, k) for c in groups
    )


def counted_tokens(activity: Activity) -> Int64[np.ndarray, "vocab"]:
    """How many counted tokens have each id."""
    corpus = activity.corpus
    return np.bincount(corpus.tokens[activity.counted], minlength=len(corpus.vocabulary))


def _token_table(
    counts: Rows, activity: Activity, occurrences: Int64[np.ndarray, "vocab"], k: int
) -> pandas.DataFrame:
    owner = counts.owner
    order = np.lexsort((counts.places, -counts.values, owner))
    rank = rank_of(owner)
    order, rank = order[rank <= k], rank[rank <= k]
    token, count, totals = counts.places[order], counts.values[order], counts.sums(counts.values)
    share = count / totals[owner[order]]
    return table(
        {
            "feature": counts.features[owner[order]],
            "rank": rank,
            "token": token,
            "text": [activity.corpus.vocabulary[t] for t in token.tolist()],
            "count": count.astype(np.int64),
            "share": share,
            "recall": count / occurrences[token],
            "lift": share / (occurrences[token] / activity.counted.sum()),
        }
    )
