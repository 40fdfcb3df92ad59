"""How many things a feature stands for: clusters of the contexts in which it is active."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sae_circuits.errors import CorpusError, NumericalError
from sae_circuits.features.asked import check_k, require_features
from sae_circuits.features.columns import Activity
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.frames import table
from sae_circuits.features.numerics.clusters import clustered, stability
from sae_circuits.progress import track

if TYPE_CHECKING:
    import pandas

Embedding = Callable[[Corpus, Int64[np.ndarray, "some"]], Float[np.ndarray, "some d"]]
"""What gives a vector for the context of each of some places."""

STRUCTURE = 0.25
"""The mean silhouette below which Kaufman and Rousseeuw (1990) find no structure: one cluster."""
STABLE = 0.6
"""The stability from which clusters are taken for meanings."""
WINDOW, DECAY = 8, 0.7
SPLITS = 10


@dataclass(frozen=True, eq=False)
class Meanings:
    """The clusters of one feature's contexts.

    Args:
        feature: its id.
        places: of the active tokens that were looked at, rising.
        labels: the cluster of each, from 0, the largest first.
        silhouette: the mean one of the best number of clusters from two; NaN where there are too
            few different contexts.
        stability: see `numerics.clusters.stability`; NaN for one cluster.
    """

    feature: int
    places: Int64[np.ndarray, "context"]
    labels: Int64[np.ndarray, "context"]
    silhouette: float
    stability: float

    @property
    def n(self) -> int:
        """How many clusters there are; 0 for a dead feature."""
        return int(self.labels.max(initial=-1)) + 1

    @property
    def polysemantic(self) -> bool:
        """Whether there are several clusters, and other contexts would give them too."""
        return self.n > 1 and self.stability >= STABLE


def window_means(
    vectors: Float[np.ndarray, "vocab d"] | Float[Tensor, "vocab d"],
    activity: Activity,
    *,
    window: int = WINDOW,
    decay: float = DECAY,
) -> Embedding:
    """Embed a context by the mean of its last tokens' own vectors.

    The token itself counts 1, the one before it `decay`, and so on; tokens of other prompts and
    special ones count nothing. What all counted tokens have in common, their mean, is taken off.

    Args:
        vectors: of each token id, such as the model's embeddings W_E.
        window: how many tokens, with the one on which the feature is active.

    Raises:
        CorpusError: other than one vector for each id of the vocabulary that occurs.
        NumericalError: NaN or infinity among them.
    """
    held = vectors.detach().float().cpu().numpy() if isinstance(vectors, Tensor) else vectors
    corpus = activity.corpus
    if len(held) <= corpus.tokens.max():
        raise CorpusError(f"{len(held):,} vectors for tokens up to id {corpus.tokens.max()}")
    if not np.isfinite(held[np.unique(corpus.tokens)]).all():
        raise NumericalError("vectors of tokens hold NaN or infinity")
    counts = np.bincount(corpus.tokens[activity.counted], minlength=len(held))
    present = np.flatnonzero(counts)
    mean = counts[present] @ held[present].astype(np.float64) / max(counts.sum(), 1)
    weights = decay ** np.arange(window)

    def embed(corpus: Corpus, places: Int64[np.ndarray, "some"]) -> Float64[np.ndarray, "some d"]:
        at = places[:, None] - np.arange(window)
        _, position = corpus.locate(places)
        inside = np.arange(window) <= position[:, None]
        tokens = corpus.tokens[np.maximum(at, 0)]
        weight = weights * inside * ~corpus.vocabulary.is_special[tokens]
        found = np.einsum("cw,cwd->cd", weight, held[tokens] - mean)
        return found / np.maximum(weight.sum(1, keepdims=True), np.finfo(float).tiny)

    return embed


def meanings(
    activity: Activity,
    feature: int,
    embed: Embedding,
    *,
    contexts: int = 200,
    most: int = 8,
    seed: int = 0,
) -> Meanings:
    """Cluster the contexts in which a feature is active.

    Vectors of contexts are brought to length 1 and clustered by Ward's criterion, into as many
    clusters as have the largest mean silhouette; into one where that is below `STRUCTURE`.

    Args:
        embed: gives a vector for each context: `window_means`, or a function of one's own.
        contexts: as many of the active tokens at most, drawn by the feature's id and the seed.
        most: the most clusters.

    Raises:
        UnknownName: no such feature.
        OptionError: less than one context or cluster.
        NumericalError: `embed` gives NaN or infinity.
    """
    for name, number in (("contexts", contexts), ("most", most)):
        check_k(number, name)
    ids = require_features([feature], activity.n_features)
    rng = np.random.default_rng([seed, feature])
    places, _ = activity.columns(ids).column(0)
    if len(places) > contexts:
        places = np.sort(rng.choice(places, contexts, replace=False))
    if not len(places):
        return Meanings(feature, places, np.zeros(0, dtype=np.int64), np.nan, np.nan)
    points = _unit(np.asarray(embed(activity.corpus, places), dtype=np.float64), feature)
    found = clustered(points, most)
    labels = found.labels if found.silhouette >= STRUCTURE else np.zeros_like(found.labels)
    n = int(labels.max()) + 1
    return Meanings(feature, places, labels, found.silhouette, stability(points, n, rng, SPLITS))


def _unit(points: Float64[np.ndarray, "point d"], feature: int) -> Float64[np.ndarray, "point d"]:
    if not np.isfinite(points).all():
        raise NumericalError(f"a context of feature {feature} has a vector with NaN or infinity")
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.where(lengths > 0, lengths, 1)


def polysemantic(
    activity: Activity,
    embed: Embedding,
    *,
    features: Sequence[int] | None = None,
    contexts: int = 200,
    most: int = 8,
    seed: int = 0,
) -> pandas.DataFrame:
    """`meanings` of many features.

    Returns:
        Columns `feature`, `contexts` (how many were looked at), `clusters`, `silhouette`,
        `stability`, and `polysemantic`: several clusters with a stability of at least `STABLE`.

    Raises:
        UnknownName, OptionError, NumericalError: see `meanings`.
    """
    ids = require_features(features, activity.n_features).tolist()
    found = [
        meanings(activity, f, embed, contexts=contexts, most=most, seed=seed)
        for f in track(ids, description="meanings")
    ]
    return table(
        {
            "feature": ids,
            "contexts": [len(m.places) for m in found],
            "clusters": [m.n for m in found],
            "silhouette": [m.silhouette for m in found],
            "stability": [m.stability for m in found],
            "polysemantic": [m.polysemantic for m in found],
        }
    )
