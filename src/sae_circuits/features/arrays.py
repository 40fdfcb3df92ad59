"""Activations that are held as one array, such as those of neurons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from sae_circuits.errors import CorpusError, NumericalError
from sae_circuits.features.columns import Columns
from sae_circuits.features.corpus import Corpus


@dataclass(frozen=True, eq=False)
class ArrayActivity:
    """Activity of features or neurons, from their activations on every token.

    Args:
        corpus: the tokens.
        counted: which of them count.
        values: the activations. A `numpy.memmap` stays on disk, but for some features at a time.
        at_once: how many numbers are taken from it at a time.

    Raises:
        CorpusError: other than one row for each token.
    """

    corpus: Corpus
    counted: Bool[np.ndarray, "token"]
    values: Float[np.ndarray, "row feature"]
    at_once: int = 2**22

    def __post_init__(self) -> None:
        if len(self.values) != self.corpus.n_tokens:
            raise CorpusError(
                f"{len(self.values):,} rows of activations for {self.corpus!r}: give one for each "
                "token, in the corpus's order"
            )

    @property
    def n_features(self) -> int:
        """How many features or neurons there are."""
        return self.values.shape[1]

    def columns(self, features: Int64[np.ndarray, "feature"]) -> Columns:
        """Activations of some, in the order asked for.

        Raises:
            NumericalError: NaN or infinity on a token that counts.
        """
        places = np.flatnonzero(self.counted)
        held = np.asarray(self.values[:, features])[places].T.astype(np.float32)
        if not np.isfinite(held).all():
            wrong, where = (int(x[0]) for x in np.nonzero(~np.isfinite(held)))
            raise NumericalError(
                f"the activation of {int(features[wrong])} on token {int(places[where])} is "
                f"{held[wrong, where]}: mask that token or mend the activations"
            )
        owner, which = np.nonzero(held)
        counts = np.bincount(owner, minlength=len(features))
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Columns(features, starts, places[which], held[owner, which])

    def blocks(self) -> Iterator[Columns]:
        """All, some at a time."""
        step = max(1, self.at_once // max(1, self.corpus.n_tokens))
        for first in range(0, self.n_features, step):
            yield self.columns(np.arange(first, min(first + step, self.n_features)))
