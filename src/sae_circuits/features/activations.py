"""`Activations`: what every feature does on every counted token, kept sparse and out of memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from sae_circuits.errors import StoreError
from sae_circuits.features.asked import feature_ids
from sae_circuits.features.columns import Columns
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.masks import Masks
from sae_circuits.features.stretches import Stretch, ranges

ACTIVE_BYTES = 192  # what statistics need at most for one activation of a block


@dataclass(frozen=True, eq=False)
class Piece:
    """What one extraction found, in stretches of prompts, and where these begin in the corpus.

    Args:
        stretches: in the order of their prompts.
        first_prompt: of the corpus.
        folder: where they are; None in memory.
    """

    stretches: tuple[Stretch, ...]
    first_prompt: int = 0
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of all features of a source over a corpus, those that are not 0.

    Args:
        corpus: the tokens.
        masks: which of them count.
        n_features: of the source.
        source: its record: all that decides the activations.
        pieces: one for each extraction that was merged into this.
        names: of the features, where they have names.
        memory: bytes that a block of features may take, statistics included.
    """

    corpus: Corpus
    masks: Masks
    n_features: int
    source: Mapping[str, Any]
    pieces: tuple[Piece, ...]
    names: tuple[str, ...] | None = None
    memory: int = 1 << 30

    def __repr__(self) -> str:
        return (
            f"Activations({self.n_features:,} features on {self.n_counted:,} counted tokens of "
            f"{self.corpus!r}: {self.n_active:,} that are not 0)"
        )

    # -- sizes -----------------------------------------------------------------------------------

    @property
    def counted(self) -> Bool[np.ndarray, "token"]:
        """Which tokens of the corpus count."""
        return self._counted

    @cached_property
    def _counted(self) -> Bool[np.ndarray, "token"]:
        found = self.masks.counted(self.corpus)
        for offset, stretch in self._placed:
            found[stretch.outliers + offset] = False
        return found

    @cached_property
    def n_counted(self) -> int:
        """How many tokens count."""
        return int(self.counted.sum())

    @cached_property
    def n_active(self) -> int:
        """How many activations are not 0."""
        return int(self.counts.sum())

    @cached_property
    def counts(self) -> Int64[np.ndarray, "feature"]:
        """On how many counted tokens each feature is active."""
        total = np.zeros(self.n_features, dtype=np.int64)
        for _, stretch in self._placed:
            total += stretch.counts
        return total

    @cached_property
    def _placed(self) -> list[tuple[int, Stretch]]:
        """The stretches, and the place of the first token of each."""
        return [
            (int(self.corpus.starts[piece.first_prompt + stretch.first]), stretch)
            for piece in self.pieces
            for stretch in piece.stretches
        ]

    # -- reading ---------------------------------------------------------------------------------

    def columns(self, features: Int64[np.ndarray, "feature"] | Sequence[int]) -> Columns:
        """Activations of some features, in the order asked for.

        Raises:
            UnknownName: an id that the source does not have.
        """
        features = feature_ids(features, self.n_features)
        counts = self.counts[features]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.empty(starts[-1], dtype=np.int64)
        values = np.empty(starts[-1], dtype=np.float32)
        at = starts[:-1].copy()
        for offset, stretch in self._placed:
            first, n = stretch.bounds(features)
            if not n.any():
                continue
            low, high = int(first[n > 0].min()), int((first + n).max())
            index, out = ranges(first - low, n), ranges(at, n)
            places[out] = stretch.part("places", low, high)[index] + np.int64(offset)
            values[out] = stretch.part("values", low, high)[index]
            at += n
        return Columns(features, starts, places, values)

    def blocks(self) -> Iterator[Columns]:
        """All features in rising order, as many at a time as memory is meant for."""
        room = max(1, self.memory // ACTIVE_BYTES)
        every, first = np.cumsum(self.counts + 16), 0  # a feature takes room of its own
        while first < self.n_features:
            done = every[first - 1] if first else 0
            stop = max(first + 1, int(np.searchsorted(every, done + room, side="right")))
            yield self.columns(np.arange(first, stop))
            first = stop

    # -- merging ---------------------------------------------------------------------------------

    def __add__(self, other: Activations) -> Activations:
        """Those of both, as if the prompts of both had been extracted in one.

        Raises:
            StoreError: of another model, dictionary or mask.
            CorpusError: of another tokenizer.
        """
        for what, mine, theirs in (
            ("model or dictionary", dict(self.source), dict(other.source)),
            ("masks", self.masks, other.masks),
        ):
            if mine != theirs:
                raise StoreError(
                    f"activations of other {what} cannot be merged: {mine!r} and {theirs!r}"
                )
        corpus = self.corpus + other.corpus
        moved = (
            replace(piece, first_prompt=piece.first_prompt + self.corpus.n_prompts)
            for piece in other.pieces
        )
        return replace(self, corpus=corpus, pieces=(*self.pieces, *moved))
