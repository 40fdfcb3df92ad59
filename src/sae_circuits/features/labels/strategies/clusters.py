r"""Tokens of one meaning: those on which a feature fires lie together in the model's embeddings.

With e_t the embedding of token t, of length 1, the coherence of m different tokens is the mean
cosine of its pairs

    c = (|sum_t e_t|^2 - m) / (m (m - 1))

and is set against that of m tokens drawn at random from those of the corpus. The label points at
all tokens, seen or not, whose cosine with the centre is at least the radius that foretells the
feature best on the prompts that labels are made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from sae_circuits.errors import NumericalError, OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.contrast import Contrast
from sae_circuits.features.labels.predicates import TokenIn
from sae_circuits.features.labels.strategy import Proposal, Propose, Setting, Strategy
from sae_circuits.features.labels.variants import token_classes
from sae_circuits.features.labels.words import listed

CHANCE = 0.99  # the quantile of random tokens' coherence that has to be passed
DRAWS = 200

Unit = Float32[np.ndarray, "vocab d_model"]
Ids = Int64[np.ndarray, "_"]


def make(setting: Setting, *, embeddings: Any, fewest: int, named: int, least: int) -> Propose:
    """Labels such as `tokens like "three", "four" or "five"`: the tokens of one cluster.

    Args:
        embeddings: of each token, [vocab, d_model]: the model's W_E.
        fewest: different words on which a feature has to fire more than their share.
        named: how many words a label names, those nearest to the centre.
        least: tokens of a word on which the feature has to fire.

    Raises:
        OptionError: no embeddings, embeddings of another shape, or fewer than two words.
        NumericalError: NaN or infinity in the embeddings, with the token.
    """
    if fewest < 2 or named < 1:
        raise OptionError(f"fewest={fewest}, named={named}: 2 or more words, 1 or more names")
    unit = _unit(setting, embeddings)
    part = setting.part
    n = len(part.corpus.vocabulary)
    contrast = Contrast(part, token_classes(part, 0), n, least=least)
    cluster = Clusters(contrast, unit, setting.seed)

    def propose(columns: Columns) -> Iterator[Proposal]:
        counts = contrast.count(columns)
        strong = contrast.more_than_share(columns, counts)
        edges = np.searchsorted(strong.column, np.arange(len(columns) + 1))
        every = np.searchsorted(counts.column, np.arange(len(columns) + 1))
        for i in range(len(columns)):
            ids = strong.group[edges[i] : edges[i + 1]]
            if len(np.unique(part.ground.words[ids])) >= fewest:
                hits = np.zeros(n, dtype=np.int64)
                own = slice(every[i], every[i + 1])
                hits[counts.group[own]] = counts.hits[own]
                yield from cluster.proposals(int(columns.features[i]), ids, hits, named)

    return propose


def _unit(setting: Setting, embeddings: Any) -> Unit:
    """The embeddings, each of length 1; a zero one stays zero."""
    if embeddings is None:
        raise OptionError("strategy 'clusters' needs clusters={'embeddings': W_E}")
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().float().cpu().numpy()
    rows = np.asarray(embeddings, dtype=np.float32)
    n = len(setting.part.corpus.vocabulary)
    if rows.ndim != 2 or len(rows) < n:
        raise OptionError(f"embeddings are of shape {rows.shape}, and ({n}, d_model) is needed")
    rows = rows[:n]  # models round their vocabulary up
    wrong = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(wrong):
        raise NumericalError(f"the embedding of token {wrong[0]} is not finite")
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def coherence(unit: Float32[np.ndarray, "... some d_model"]) -> Any:
    """The mean cosine of different vectors of length 1, pair by pair."""
    m = unit.shape[-2]
    return ((unit.sum(-2) ** 2).sum(-1) - m) / (m * (m - 1))


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters in the embeddings of one corpus's tokens.

    Args:
        contrast: the corpus's tokens, by their ids.
        unit: the tokens' embeddings.
        seed: of the random tokens.
    """

    contrast: Contrast
    unit: Unit
    seed: int
    _chance: dict[int, float] = field(default_factory=dict, repr=False)

    def chance(self, m: int) -> float:
        """What the coherence of m random words of the corpus stays below, 99 times in 100."""
        if m not in self._chance:
            rng = np.random.default_rng([self.seed, m])
            seen = np.flatnonzero(self.contrast.totals)
            draws = [rng.choice(seen, m, replace=False) for _ in range(DRAWS)]
            found = [float(coherence(self.unit[ids])) for ids in draws]
            self._chance[m] = float(np.quantile(found, CHANCE))
        return self._chance[m]

    def proposals(
        self, feature: int, ids: Ids, hits: Int64[np.ndarray, "vocab"], named: int
    ) -> Iterator[Proposal]:
        """The label of the cluster that some tokens make, if they lie together."""
        ids = self._one_a_word(ids, hits)
        found, chance = float(coherence(self.unit[ids])), self.chance(len(ids))
        if found <= chance:
            return
        centre = self.unit[ids].sum(0)
        centre /= max(float(np.linalg.norm(centre)), 1e-12)
        cosine = self.unit @ centre
        radius = self._radius(cosine, hits)
        inside = np.flatnonzero(cosine >= radius)
        vocabulary = self.contrast.part.corpus.vocabulary
        near = ids[np.argsort(-cosine[ids], kind="stable")]
        names = list(dict.fromkeys(vocabulary[int(i)].strip() or vocabulary[int(i)] for i in near))
        made = {
            "ids": inside.tolist(),
            "offset": 0,
            "coherence": found,
            "chance": chance,
            "radius": radius,
            "words": len(ids),
        }
        text = f"tokens like {listed(names[:named])}"
        yield Proposal(feature, text, TokenIn(tuple(inside.tolist())), made)

    def _one_a_word(self, ids: Ids, hits: Int64[np.ndarray, "vocab"]) -> Ids:
        """Of each word's variants the one that fires most: variants lie together in any case."""
        order = ids[np.lexsort((ids, -hits[ids]))]
        first = np.unique(self.contrast.part.ground.words[order], return_index=True)[1]
        return np.sort(order[first])

    def _radius(
        self, cosine: Float32[np.ndarray, "vocab"], hits: Int64[np.ndarray, "vocab"]
    ) -> float:
        """The cosine down to which tokens foretell the feature best."""
        seen = np.flatnonzero(self.contrast.totals)
        order = seen[np.argsort(-cosine[seen], kind="stable")]
        k, n = np.cumsum(hits[order]), np.cumsum(self.contrast.totals[order])
        return float(cosine[order[np.argmax(2 * k / (hits.sum() + n))]])


STRATEGY = Strategy(
    name="clusters",
    make=make,
    options={"embeddings": None, "fewest": 3, "named": 5, "least": 2},
)
