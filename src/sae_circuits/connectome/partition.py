"""Clusters in a graph of nearest neighbours, and how far another sample gives the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from sae_circuits.connectome.likeness import Likeness
from sae_circuits.features.numerics.density import hdbscan
from sae_circuits.graph.networks import louvain
from sae_circuits.progress import track

METHODS = ("louvain", "hdbscan")


@dataclass(frozen=True)
class How:
    """How to find clusters.

    Args:
        method: of `METHODS`.
        k: neighbours of each feature.
        min_size: what is smaller is no cluster.
        resolution: of Louvain.
        seed: of Louvain.
    """

    method: str
    k: int
    min_size: int
    resolution: float
    seed: int

    def of_sample(self, left: int, every: int) -> How:
        """The same where fewer features are left, so that as large a part are neighbours."""
        if left == every:
            return self
        k, least = (round(x * left / every) for x in (self.k, self.min_size))
        return How(self.method, max(k, 1), max(least, 2), self.resolution, self.seed)


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """An undirected graph: two features are joined where either is among the other's nearest.

    Args:
        left, right: the ends of each edge, once.
        likeness: above 0, and up to 1.
    """

    n: int
    left: Int64[np.ndarray, "pair"]
    right: Int64[np.ndarray, "pair"]
    likeness: Float64[np.ndarray, "pair"]

    @classmethod
    def of(cls, likeness: Likeness, k: int) -> Neighbourhood:
        """The k nearest of each feature, as far as their likeness is above 0."""
        n, found = likeness.n_features, likeness.near(k)
        keys = np.minimum(found.feature, found.other) * n + np.maximum(found.feature, found.other)
        keys, first = np.unique(keys[found.value > 0], return_index=True)
        left, right = np.divmod(keys, max(n, 1))
        return cls(n, left, right, found.value[found.value > 0][first].clip(max=1.0))

    def clusters(self, how: How) -> Int64[np.ndarray, "feature"]:
        """The cluster of each feature, the largest 0, ties by the first feature; -1 for none."""
        if how.method == "hdbscan":
            return numbered(self._by_density(how), how.min_size)
        left, right, weights = map(torch.from_numpy, (self.left, self.right, self.likeness))
        found = louvain(self.n, left, right, weights, resolution=how.resolution, seed=how.seed)
        labels = np.full(self.n, -1, dtype=np.int64)
        for i, community in enumerate(found):
            labels[community] = i
        return numbered(labels, how.min_size)

    def _by_density(self, how: How) -> Int64[np.ndarray, "feature"]:
        """At distances of 1 - likeness, among the features that have neighbours."""
        there = np.unique(np.concatenate([self.left, self.right]))
        left, right = np.searchsorted(there, self.left), np.searchsorted(there, self.right)
        samples = min(how.k, how.min_size)
        labels = np.full(self.n, -1, dtype=np.int64)
        labels[there] = hdbscan(
            len(there), left, right, 1 - self.likeness, min_size=how.min_size, min_samples=samples
        )
        return labels

    def shares(
        self, group: Int64[np.ndarray, "feature"], n: int
    ) -> Float64[np.ndarray, "group group"]:
        """Of the likeness of each group to its neighbours, the share that is to each group.

        Args:
            group: of each feature, from 0.
            n: how many groups there are.
        """
        sums = np.zeros((n, n))
        np.add.at(sums, (group[self.left], group[self.right]), self.likeness)
        sums = sums + sums.T
        totals = sums.sum(1, keepdims=True)
        return sums / np.where(totals > 0, totals, 1.0)


def numbered(labels: Int64[np.ndarray, "feature"], least: int) -> Int64[np.ndarray, "feature"]:
    """Labels anew: the largest cluster is 0, ties by the first feature; -1 in what is too small.

    >>> numbered(np.array([4, 1, 1, 2, 2, -1]), 2).tolist()
    [-1, 0, 0, 1, 1, -1]
    """
    different, first, counts = np.unique(labels, return_index=True, return_counts=True)
    kept = (different >= 0) & (counts >= least)
    order = np.lexsort((first[kept], -counts[kept]))
    new = np.full(len(different), -1, dtype=np.int64)
    new[np.flatnonzero(kept)[order]] = np.arange(len(order))
    return new[np.searchsorted(different, labels)]


def stability(
    likeness: Likeness, labels: Int64[np.ndarray, "feature"], how: How, repeats: int, seed: int
) -> Float64[np.ndarray, "cluster"]:
    """How well each cluster is found again in other samples, from 0 to 1.

    The mean over samples of the largest Jaccard index that the cluster, as far as its features are
    left, has with a cluster of the sample. Samples count in which as many are left as make a
    cluster there; without one it is NaN.

    Reference: Hennig, C., Computational Statistics & Data Analysis 52 (2007) 258.
    """
    n, rng = int(labels.max(initial=-1)) + 1, np.random.default_rng(seed)
    total, times = np.zeros(n), np.zeros(n)
    for _ in track(range(repeats if n else 0), description="other samples"):
        left, sample = likeness.half(rng)
        own = how.of_sample(len(left), len(labels))
        again = Neighbourhood.of(sample, own.k).clusters(own)
        found, there = best_jaccard(labels[left], again, n, own.min_size)
        total += np.where(there, found, 0.0)
        times += there
    return np.where(times > 0, total / np.maximum(times, 1), np.nan)


def best_jaccard(
    labels: Int64[np.ndarray, "feature"],
    others: Int64[np.ndarray, "feature"],
    n: int,
    least: int = 1,
) -> tuple[Float64[np.ndarray, "cluster"], Bool[np.ndarray, "cluster"]]:
    """The largest Jaccard index of each of n clusters with others; which have so many features.

    >>> best_jaccard(np.array([0, 0, 0, 1, -1]), np.array([0, 0, 1, 1, 1]), 3)[0].round(3).tolist()
    [0.667, 0.333, 0.0]
    """
    m = int(others.max(initial=-1)) + 1
    both, mine, its = (np.zeros(shape) for shape in ((n, m), n, m))
    np.add.at(mine, labels[labels >= 0], 1)
    np.add.at(its, others[others >= 0], 1)
    in_both = (labels >= 0) & (others >= 0)
    np.add.at(both, (labels[in_both], others[in_both]), 1)
    either = mine[:, None] + its - both
    return (both / np.maximum(either, 1)).max(1, initial=0.0), mine >= least
