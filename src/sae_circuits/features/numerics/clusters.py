"""Clusters of points, how many there are, and how far another sample would give the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.cluster import hierarchy
from scipy.spatial import distance


@dataclass(frozen=True, eq=False)
class Clusters:
    """Points in clusters.

    Args:
        labels: the cluster of each point, from 0: the largest first, ties by the first point.
        silhouette: the mean over points of (b - a) / max(a, b), with a the mean distance to the
            others of its cluster and b that to the nearest other cluster; NaN with one cluster.
    """

    labels: Int64[np.ndarray, "point"]
    silhouette: float

    @property
    def n(self) -> int:
        """How many clusters there are."""
        return int(self.labels.max(initial=-1)) + 1


def clustered(points: Float64[np.ndarray, "point d"], most: int) -> Clusters:
    """From two up to `most` clusters, as many as have the largest mean silhouette.

    The clusters are cuts of one tree, by Ward's criterion, so that nothing is drawn at random; two
    merges of equal height are made both or neither. Of equal silhouettes that of fewer clusters
    counts; with fewer than three different points, or `most` below 2, there is one cluster.

    References: Ward, J. H., Journal of the American Statistical Association 58 (1963) 236.
    Rousseeuw, P. J., Journal of Computational and Applied Mathematics 20 (1987) 53.
    """
    one = Clusters(np.zeros(len(points), dtype=np.int64), np.nan)
    most = min(most, len(np.unique(points, axis=0)) - 1)
    if most < 2:
        return one
    tree, distances = hierarchy.linkage(points, "ward"), distance.cdist(points, points)
    cuts = [by_size(_cut(tree, n)) for n in range(2, most + 1)]
    found = [Clusters(labels, silhouette(distances, labels)) for labels in cuts if labels.any()]
    if not found:
        return one
    return max(found, key=lambda clusters: clusters.silhouette)  # the first of equals


def _cut(tree: Float64[np.ndarray, "merge 4"], n: int) -> Int64[np.ndarray, "point"]:
    """The cluster of each point when there are n, or fewer where the n-th cut is a tie."""
    return hierarchy.fcluster(tree, n, "maxclust").astype(np.int64) - 1


def silhouette(
    distances: Float64[np.ndarray, "point point"], labels: Int64[np.ndarray, "point"]
) -> float:
    """The mean silhouette; a point alone in its cluster has 0.

    >>> x = np.array([0.0, 1.0, 10.0])
    >>> round(silhouette(abs(x[:, None] - x), np.array([0, 0, 1])), 6)
    0.596296
    """
    member = np.eye(labels.max() + 1)[labels]
    sizes = member.sum(0)
    sums = distances @ member
    own = np.arange(len(labels)), labels
    inside = sums[own] / np.maximum(sizes[labels] - 1, 1)
    outside = sums / sizes
    outside[own] = np.inf
    nearest = outside.min(1)
    larger = np.maximum(inside, nearest)
    each = np.where(larger > 0, (nearest - inside) / np.where(larger > 0, larger, 1), 0)
    return float(np.where(sizes[labels] > 1, each, 0.0).mean())


def adjusted_rand(a: Int64[np.ndarray, "point"], b: Int64[np.ndarray, "point"]) -> float:
    """How far two ways to cluster the same points agree: 1 if they are one, 0 as by chance.

    Reference: Hubert, L. and Arabie, P., Journal of Classification 2 (1985) 193.

    >>> round(adjusted_rand(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])), 6)
    0.571429
    """
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    both, rows, columns, every = (
        (n * (n - 1) / 2).sum() for n in (table, table.sum(1), table.sum(0), table.sum())
    )
    chance, most = rows * columns / max(every, 1), (rows + columns) / 2
    return 1.0 if most == chance else float((both - chance) / (most - chance))


def stability(
    points: Float64[np.ndarray, "point d"], n: int, rng: np.random.Generator, repeats: int
) -> float:
    """How far halves of the points give the same n clusters of them all.

    The mean, over random splits into halves, of the adjusted Rand index between two ways to cluster
    all points: each to the nearest centre of the clusters of one half, and of the other. NaN for
    one cluster, or where a half has fewer than n points.
    """
    half = len(points) // 2
    if n < 2 or half < n:
        return np.nan
    scores = []
    for _ in range(repeats):
        order = rng.permutation(len(points))
        labels = [_to_nearest(points, points[part], n) for part in (order[:half], order[half:])]
        scores.append(adjusted_rand(*labels))
    return float(np.mean(scores))


def _to_nearest(
    points: Float64[np.ndarray, "point d"], some: Float64[np.ndarray, "some d"], n: int
) -> Int64[np.ndarray, "point"]:
    """Each point's nearest centre of the n clusters of some points."""
    labels = _cut(hierarchy.linkage(some, "ward"), n)
    centres = np.stack([some[labels == i].mean(0) for i in range(labels.max() + 1)])
    return distance.cdist(points, centres).argmin(1)


def by_size(labels: Int64[np.ndarray, "point"]) -> Int64[np.ndarray, "point"]:
    """Labels anew: the largest cluster is 0, ties by the first point.

    >>> by_size(np.array([4, 1, 1, 2, 2, 0])).tolist()
    [2, 0, 0, 1, 1, 3]
    """
    _, first, label, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    return np.argsort(np.lexsort((first, -sizes)))[label]
