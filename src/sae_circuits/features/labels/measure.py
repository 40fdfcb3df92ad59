"""The test of a label: precision and recall on tokens that it was not made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from sae_circuits.features.labels.label import Interval
from sae_circuits.features.labels.parts import Part, Places
from sae_circuits.features.labels.strategy import Predicate

Z = 1.959963984540054  # of the normal distribution, for 95%
Floats = Float64[np.ndarray, "*any"]


def wilson(hits: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Wilson's 95% interval of a share, from `hits` of `n` tokens; arrays are taken one by one.

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Tokens of one prompt are alike, and so it is somewhat narrow. Of no token it is (0, 1).

    >>> [round(float(end), 3) for end in wilson(np.array(8.0), np.array(10.0))]
    [0.49, 0.943]

    Reference: Wilson (1927), doi:10.1080/01621459.1927.10502953.
    """
    p = hits / np.maximum(n, 1e-300)
    middle = n * p + Z**2 / 2
    half = Z * np.sqrt(n * p * (1 - p) + Z**2 / 4)
    low, high = (middle - half) / (n + Z**2), (middle + half) / (n + Z**2)
    return np.asarray(np.minimum(np.maximum(low, 0.0), p)), np.asarray(
        np.maximum(np.minimum(high, 1.0), p)
    )


@dataclass(frozen=True)
class Share:
    """A share of tokens with its 95% interval; None of no token."""

    value: float | None
    interval: Interval | None

    @classmethod
    def of(cls, part: Part, both: Places, among: Places) -> Share:
        """The share that some places have of others, each counted with its weight.

        The interval is Wilson's, with Kish's effective number of tokens where weights differ.
        """
        if not len(among):
            return cls(None, None)
        if part.weight is None:
            share, size = len(both) / len(among), float(len(among))
        else:
            weight = part.weight[among]
            share = float(part.weight[both].sum() / weight.sum())
            size = float(weight.sum() ** 2 / (weight**2).sum())
        low, high = wilson(np.array(share * size), np.array(size))
        return cls(share, (float(low), float(high)))


@dataclass(frozen=True)
class Measured:
    """How well a label foretells where a feature fires."""

    precision: Share
    recall: Share
    counts: dict[str, Any]

    @property
    def score(self) -> float | None:
        """The harmonic mean of precision and recall; None where one is undefined."""
        p, r = self.precision.value, self.recall.value
        if p is None or r is None:
            return None
        return 2 * p * r / (p + r) if p + r else 0.0


def measure(predicts: Predicate, part: Part, active: Places) -> Measured:
    """Test a predicate on a part of a corpus.

    Args:
        active: where the feature fires in the part.
    """
    predicted = _rising(predicts(part))
    predicted = predicted[part.is_in[predicted]]
    active = active[part.is_in[active]]
    both = _common(predicted, active)
    precision, recall = Share.of(part, both, predicted), Share.of(part, both, active)
    counts = {"tokens": len(part.places), "predicted": len(predicted), "active": len(active)}
    return Measured(precision, recall, counts)


def _rising(places: Places) -> Places:
    """Places in order, each once; those of our own predicates are so already."""
    return places if (np.diff(places) > 0).all() else np.unique(places)


def _common(one: Places, other: Places) -> Places:
    """The places in both of two rising rows, in time that hangs on the shorter."""
    few, many = (one, other) if len(one) <= len(other) else (other, one)
    at = np.searchsorted(many, few)
    inside = at < len(many)
    found = few[inside]
    return found[many[at[inside]] == found]
