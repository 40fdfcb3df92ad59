"""Products of sparse rows, such as features' activations.

Every sum is one of float64 numbers in the order of the places (tokens of the corpus), one after the
other. The product of two float32 numbers is exact in float64, so that a sum depends on the two rows
alone: not on what other rows are held beside them, and not on which of the two comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from scipy import sparse

from sae_circuits.features.columns import Columns

DENSE = 0.2  # share of numbers other than 0 from which a dense product is the faster one


@dataclass(frozen=True, eq=False)
class Rows(Columns):
    """Rows of numbers of which few are not 0: of features, over places such as tokens.

    Args:
        values: the numbers, never 0.
        n_places: how many places there are.
    """

    values: Float64[np.ndarray, "active"]
    n_places: int

    @classmethod
    def of(cls, columns: Columns, n_places: int) -> Rows:
        """Activations, place by place."""
        values = columns.values.astype(np.float64)
        return cls(columns.features, columns.starts, columns.places, values, n_places)

    def sums(self, values: Float64[np.ndarray, "active"]) -> Float64[np.ndarray, "feature"]:
        """Each row's sum of some numbers, in the order of the places."""
        return np.bincount(self.owner, values, minlength=len(self)).astype(np.float64)

    def __getitem__(self, some: slice) -> Rows:
        """Some rows that follow each other."""
        if some.indices(len(self))[:2] == (0, len(self)):
            return self  # with the forms that it has by now
        return super().__getitem__(some)

    # -- forms -------------------------------------------------------------------------------

    @cached_property
    def matrix(self) -> Any:
        """[feature, place]."""
        shape = len(self), self.n_places
        return sparse.csr_array((self.values, self.places, self.starts), shape=shape)

    @cached_property
    def turned(self) -> Any:
        """[place, feature], place by place."""
        return self.matrix.T.tocsr()

    @cached_property
    def by_place(self) -> Any:
        """`turned`; as an array where most numbers are not 0."""
        dense = len(self.values) > DENSE * len(self) * self.n_places
        return np.ascontiguousarray(self.matrix.T.toarray()) if dense else self.turned

    @cached_property
    def ones(self) -> Any:
        """`matrix` with 1 for each number."""
        return _with_ones(self.matrix)

    @cached_property
    def ones_by_place(self) -> Any:
        """`by_place` with 1 for each number."""
        if isinstance(self.by_place, np.ndarray):
            return (self.by_place != 0).astype(np.float64)
        return _with_ones(self.by_place)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows that have a place in common, one row of the left after the other.

    Args:
        starts: where each left row's pairs begin, and at last how many there are.
        right: the right row of each pair, from 0, in no order.
        dots: the sum of products.
        together: in how many places both are not 0.
    """

    starts: Int64[np.ndarray, "bound"]
    right: Int64[np.ndarray, "pair"]
    dots: Float64[np.ndarray, "pair"]
    together: Int64[np.ndarray, "pair"]

    def of_left(self, values: Shaped[np.ndarray, "left"]) -> Shaped[np.ndarray, "pair"]:
        """Each pair's own among values of the left rows."""
        return np.repeat(values, np.diff(self.starts))


def pairs(left: Rows, right: Rows) -> Pairs:
    """All pairs of a left and a right row that have a place in common.

    Work is the sum over places of (left rows there) * (right rows there).
    """
    if isinstance(right.by_place, np.ndarray):
        return _dense_pairs(left, right)
    together = left.ones @ right.ones_by_place
    starts, ids = together.indptr.astype(np.int64), together.indices.astype(np.int64)
    dots = _at(left.matrix @ right.by_place, together)
    return Pairs(starts, ids, dots, together.data.astype(np.int64))


def _dense_pairs(left: Rows, right: Rows) -> Pairs:
    """The same where the right has few zeros, with the pairs that have no place in common."""
    shape = len(left), len(right)
    starts = np.arange(shape[0] + 1, dtype=np.int64) * shape[1]
    ids = np.tile(np.arange(shape[1]), shape[0])
    # Place by place, as the right lies in memory: the same sums, and faster.
    dots = left.turned.T @ right.by_place
    together = _with_ones(left.turned).T @ right.ones_by_place
    return Pairs(starts, ids, dots.ravel(), together.ravel().astype(np.int64))


def _at(matrix: Any, pattern: Any) -> Float64[np.ndarray, "pair"]:
    """A matrix's numbers where a pattern has its own: scipy leaves out sums that come to 0."""
    if np.array_equal(matrix.indices, pattern.indices):
        return matrix.data
    keys, places = (
        np.repeat(np.arange(m.shape[0]), np.diff(m.indptr)) * m.shape[1] + m.indices
        for m in (pattern, matrix)
    )
    found = np.zeros(len(keys))
    order = np.argsort(keys)
    found[order[np.searchsorted(keys, places, sorter=order)]] = matrix.data
    return found


def _with_ones(matrix: Any) -> Any:
    ones = np.ones(len(matrix.data), dtype=np.int32)
    return sparse.csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


def gathered(rows: Iterable[Rows], at_once: int) -> Iterator[Rows]:
    """The same rows, in pieces of about so many numbers."""
    held: list[Rows] = []
    for some in rows:
        if held and sum(len(r.values) for r in held) + len(some.values) > at_once:
            yield joined(held)
            held = []
        held.append(some)
    if held:
        yield joined(held)


def joined(parts: list[Rows]) -> Rows:
    """Rows after rows."""
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([part.counts for part in parts])
    return Rows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.values for part in parts]),
        parts[0].n_places,
    )
