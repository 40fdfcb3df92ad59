"""On which tokens features are active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """On which token ids the features of a block are active.

    Args:
        rows: for each feature, on how many tokens of each id: one place for each id.
        sums: of the activations there.
    """

    rows: Rows
    sums: Float64[np.ndarray, "active"]


def token_counts(columns: Columns, corpus: Corpus) -> TokenCounts:
    """Count on how many tokens of each id each feature is active; sums go in the tokens' order."""
    n = len(corpus.vocabulary)
    keys = columns.owner * n + corpus.tokens[columns.places]
    order = keys.argsort(kind="stable")
    keys = keys[order]
    new = np.diff(keys, prepend=-1) != 0
    group = np.cumsum(new) - 1
    counts = np.bincount(group).astype(np.float64)
    sums = np.bincount(group, columns.values[order].astype(np.float64)).astype(np.float64)
    keys = keys[new]
    starts = np.searchsorted(keys, np.arange(len(columns) + 1) * n).astype(np.int64)
    return TokenCounts(Rows(columns.features, starts, keys % n, counts, n), sums)


def token_entropy(counts: Rows) -> Float64[np.ndarray, "feature"]:
    """How spread each feature is over token ids, in bits; NaN for a dead one.

        H = -sum over ids v of p_v log2 p_v

    with p_v the share of v among the counted tokens on which the feature is active.
    """
    totals = counts.sums(counts.values)
    shares = counts.values / totals[counts.owner]
    entropy = 0.0 - counts.sums(shares * np.log2(shares))
    return np.where(totals > 0, entropy, np.nan)


def counted_tokens(activity: Activity) -> Int64[np.ndarray, "vocab"]:
    """How many counted tokens have each id."""
    corpus = activity.corpus
    return np.bincount(corpus.tokens[activity.counted], minlength=len(corpus.vocabulary))


def top_tokens(
    found: TokenCounts, occurrences: Int64[np.ndarray, "vocab"], k: int
) -> dict[str, np.ndarray]:
    """The columns of `token_table`, but for the text, of a block of features.

    Args:
        occurrences: from `counted_tokens`.
    """
    counts = found.rows
    owner, rank = counts.owner, rank_of(counts.owner)
    order = np.lexsort((counts.places, -counts.values, owner))[rank <= k]
    token, n, row = counts.places[order], counts.values[order], owner[order]
    share = n / counts.sums(counts.values)[row]
    return {
        "feature": counts.features[row],
        "rank": rank[rank <= k],
        "token": token,
        "n": n.astype(np.int64),
        "share": share,
        "recall": n / occurrences[token],
        "lift": share / (occurrences[token] / occurrences.sum()),
        "mean": found.sums[order] / n,
    }


def token_table(
    activity: Activity, k: int = 10, *, features: Sequence[int] | None = None
) -> pandas.DataFrame:
    """For each feature, the k token ids on which it is active most often; ties by id.

    Returns:
        Columns `feature`, `rank` (from 1), `token` (its id), `n` (of the counted tokens with this
        id, on how many it is active), `share` (`n` over the tokens on which it is active), `recall`
        (`n` over the counted tokens with this id), `lift` (`share` over this id's share of all
        counted tokens), `mean` (activation, over these n), and `text`.

    Raises:
        OptionError: k below 1.
        UnknownName: a feature that is not there.
    """
    check_k(k)
    corpus, occurrences = activity.corpus, counted_tokens(activity)

    def of_block(columns: Columns) -> pandas.DataFrame:
        found = top_tokens(token_counts(columns, corpus), occurrences, k)
        text = [corpus.vocabulary[token] for token in found["token"].tolist()]
        return table({**found, "text": text})

    return stacked(map(of_block, columns_of(activity, features)))
