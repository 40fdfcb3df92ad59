"""How near two features are, from what they do on the same tokens.

With a, b the activations on N counted tokens, n how many are not 0, and n_ab on how many both are
not 0,

    pearson = (sum a b - N mean(a) mean(b)) / (N std(a) std(b))
    cosine  = sum a b / sqrt(sum a^2  sum b^2)
    jaccard = n_ab / (n_a + n_b - n_ab)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float64

from sae_circuits.features.sparse import Pairs, Rows


@dataclass(frozen=True, eq=False)
class Moments:
    """What a measure asks of each feature alone.

    Args:
        shift: what is taken off a product of two: sqrt(N) mean(a), or 0.
        length: what it is divided by; 0 where the measure is undefined.
    """

    shift: Float64[np.ndarray, "feature"]
    length: Float64[np.ndarray, "feature"]

    @property
    def defined(self) -> Bool[np.ndarray, "feature"]:
        """For which features there is such a measure."""
        return self.length > 0

    @property
    def apart(self) -> Float64[np.ndarray, "feature"]:
        """Two features that are never active together are at -apart_i apart_j."""
        length = np.where(self.defined, self.length, 1)
        return self.shift / length


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
    return Moments(np.sqrt(n) * mean, np.where(is_constant(rows, n), 0.0, np.sqrt(squares)))


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
    i, j = pairs.left, pairs.right
    values = pairs.dots - left.shift[i] * right.shift[j]
    values /= np.where(left.defined, left.length, 1.0)[i] * np.where(
        right.defined, right.length, 1.0
    )[j]
    return values.clip(-1.0, 1.0, out=values)


def _jaccard(pairs: Pairs, left: Moments, right: Moments) -> Float64[np.ndarray, "pair"]:
    either = left.length[pairs.left] + right.length[pairs.right] - pairs.together
    return pairs.together / np.where(either > 0, either, 1.0)


MEASURES: MappingProxyType[str, Measure] = MappingProxyType(
    {
        "pearson": Measure(_centred, _cosines),
        "cosine": Measure(_raw, _cosines),
        "jaccard": Measure(_counted, _jaccard),
    }
)
"""Each measure by its name."""

