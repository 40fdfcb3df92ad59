"""Clusters by density, of points of which only the nearest are known: the door to scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse
from scipy.sparse import csgraph

from sae_circuits.errors import MissingProgram

CLOSEST = 1e-12  # a distance of 0 would be taken for none


def require_hdbscan() -> None:
    """Refuse to go on without scikit-learn.

    Raises:
        MissingProgram: with what to install.
    """
    try:
        import sklearn.cluster  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingProgram(
            "clusters by HDBSCAN need scikit-learn: pip install 'sae-circuits[hdbscan]', or take "
            "method='louvain'"
        ) from error


def hdbscan(
    n: int,
    left: Int64[np.ndarray, "pair"],
    right: Int64[np.ndarray, "pair"],
    distances: Float64[np.ndarray, "pair"],
    *,
    min_size: int,
    min_samples: int,
) -> Int64[np.ndarray, "point"]:
    """The cluster of each of n points, and -1 for those in none.

    Pairs that are not given stand at a distance of 1. What nothing nearer than that joins to
    `min_size` points is in no cluster; among the others a ring at 1 is enough, since the tree that
    HDBSCAN cuts joins what is apart at 1 in any case.

    Args:
        left, right: two different points; each pair once.
        distances: from 0 to 1.
        min_size: of a cluster, 2 at least.
        min_samples: a point's core distance is that to its neighbour of this rank.

    Raises:
        MissingProgram: scikit-learn is not installed.

    Reference: Campello, R. J. G. B., Moulavi, D. and Sander, J., PAKDD 2013, LNCS 7819, 160.
    """
    require_hdbscan()
    from sklearn.cluster import HDBSCAN  # pyright: ignore[reportMissingImports]

    labels, distances = np.full(n, -1, dtype=np.int64), np.maximum(distances, CLOSEST)
    kept = _joined(n, left, right, distances, min_size, min_samples)
    if len(kept) <= min_size:
        return labels
    inside = np.isin(left, kept) & np.isin(right, kept)
    ends = np.searchsorted(kept, left[inside]), np.searchsorted(kept, right[inside])
    matrix = _with_ring(len(kept), *ends, distances[inside], min_samples)
    options: dict[str, Any] = {"metric": "precomputed", "copy": False}
    found = HDBSCAN(min_cluster_size=min_size, min_samples=min_samples, **options)
    labels[kept] = found.fit(matrix).labels_
    return labels


def _joined(
    n: int,
    left: Int64[np.ndarray, "pair"],
    right: Int64[np.ndarray, "pair"],
    distances: Float64[np.ndarray, "pair"],
    min_size: int,
    min_samples: int,
) -> Int64[np.ndarray, "kept"]:
    """The points that mutual reachability below 1 joins to as many as make a cluster."""
    owner, values = np.concatenate([left, right]), np.concatenate([distances, distances])
    order = np.lexsort((values, owner))
    starts = np.searchsorted(owner[order], np.arange(n + 1))
    core = np.ones(n)
    enough = np.diff(starts) >= min_samples
    core[enough] = values[order][starts[:-1][enough] + min_samples - 1]
    near = np.maximum(distances, np.maximum(core[left], core[right])) < 1
    ones = np.ones(int(near.sum()))
    graph = sparse.coo_matrix((ones, (left[near], right[near])), shape=(n, n))
    _, part = csgraph.connected_components(graph, directed=False)
    return np.flatnonzero(np.bincount(part, minlength=n)[part] >= min_size)


def _with_ring(
    n: int,
    left: Int64[np.ndarray, "pair"],
    right: Int64[np.ndarray, "pair"],
    distances: Float64[np.ndarray, "pair"],
    width: int,
) -> sparse.csr_matrix:
    """All distances, and 1 from each point to the next ones where no other is known."""
    around = np.repeat(np.arange(n), width)
    beyond = (around + np.tile(np.arange(1, width + 1), n)) % n
    keys = np.concatenate([_key(n, left, right), _key(n, around, beyond)])
    keys, first = np.unique(keys, return_index=True)  # the first of equals is one of the given
    values = np.concatenate([distances, np.ones(len(around))])[first]
    low, high = np.divmod(keys, n)
    ends = np.concatenate([low, high]), np.concatenate([high, low])
    return sparse.csr_matrix((np.concatenate([values, values]), ends), shape=(n, n))


def _key(
    n: int, a: Int64[np.ndarray, "pair"], b: Int64[np.ndarray, "pair"]
) -> Int64[np.ndarray, "pair"]:
    """One number for each pair, whichever comes first."""
    return np.minimum(a, b) * n + np.maximum(a, b)
