"""How near two features are, from what they do on the same tokens.

With a, b the activations on N counted tokens, n how many are not 0, and n_ab on how many both are
not 0,

    pearson = (sum a b - N mean(a) mean(b)) / (N std(a) std(b))
    cosine  = sum a b / sqrt(sum a^2  sum b^2)
    jaccard = n_ab / (n_a + n_b - n_ab)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float64

from sae_circuits.errors import unknown
from sae_circuits.features.numerics.sparse import Pairs, Rows


@dataclass(frozen=True, eq=False)
class Moments:
    """What a measure asks of each feature alone.

    Args:
        apart: two features that are never active together are at -apart_i apart_j; for pearson
            mean(a) / std(a), for the others 0.
        length: what sums of products are divided by; 0 where the measure is undefined.
    """

    apart: Float64[np.ndarray, "feature"]
    length: Float64[np.ndarray, "feature"]

    def __getitem__(self, some: slice) -> Moments:
        return Moments(self.apart[some], self.length[some])

    @property
    def defined(self) -> Bool[np.ndarray, "feature"]:
        """For which features there is such a measure."""
        return self.length > 0

    @property
    def divisor(self) -> Float64[np.ndarray, "feature"]:
        """`length`, and 1 where it is 0."""
        return np.where(self.defined, self.length, 1.0)


@dataclass(frozen=True)
class Measure:
    """One measure.

    Args:
        moments: of some features, on so many counted tokens.
        values: of pairs, from both sides' moments; where one is undefined, any number.
    """

    moments: Callable[[Rows, int], Moments]
    values: Callable[[Pairs, Moments, Moments], Float64[np.ndarray, "pair"]]


def _centred(rows: Rows, n: int) -> Moments:
    mean = rows.sums(rows.values) / max(n, 1)
    squares = rows.sums((rows.values - mean[rows.owner]) ** 2) + (n - rows.counts) * mean**2
    length = np.where(is_constant(rows, n), 0.0, np.sqrt(squares))
    return Moments(np.sqrt(n) * mean / np.where(length > 0, length, 1.0), length)


def _raw(rows: Rows, n: int) -> Moments:
    return Moments(np.zeros(len(rows)), np.sqrt(rows.sums(rows.values**2)))


def _counted(rows: Rows, n: int) -> Moments:
    return Moments(np.zeros(len(rows)), rows.counts.astype(np.float64))


def is_constant(rows: Rows, n: int) -> Bool[np.ndarray, "feature"]:
    """Which features have the same activation on all counted tokens."""
    first = np.append(rows.values, 0.0)[rows.starts[:-1]]
    different = rows.sums((rows.values != first[rows.owner]).astype(np.float64)) > 0
    return (rows.counts == 0) | ((rows.counts == n) & ~different)


def _cosines(pairs: Pairs, left: Moments, right: Moments) -> Float64[np.ndarray, "pair"]:
    values = pairs.dots / (pairs.of_left(left.divisor) * right.divisor[pairs.right])
    if left.apart.any():
        values -= pairs.of_left(left.apart) * right.apart[pairs.right]
    return values.clip(-1.0, 1.0, out=values)


def _jaccard(pairs: Pairs, left: Moments, right: Moments) -> Float64[np.ndarray, "pair"]:
    either = pairs.of_left(left.divisor) + right.divisor[pairs.right] - pairs.together
    return pairs.together / either


MEASURES: MappingProxyType[str, Measure] = MappingProxyType(
    {
        "pearson": Measure(_centred, _cosines),
        "cosine": Measure(_raw, _cosines),
        "jaccard": Measure(_counted, _jaccard),
    }
)
"""Each measure by its name."""


def require_measures(names: Sequence[str]) -> tuple[str, ...]:
    """The names of measures, each once.

    Raises:
        UnknownName: no such measure.
    """
    for name in names:
        if name not in MEASURES:
            raise unknown("measure", name, MEASURES)
    return tuple(dict.fromkeys(names))
