"""What a store says of features from their weights alone: of a model, or of another store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from sae_circuits.features.activations import Activations
from sae_circuits.features.analysis.kinds import row_lengths
from sae_circuits.features.effects import LogitEffects, logit_effects
from sae_circuits.features.relations import similar
from sae_circuits.features.sources import DictionarySource
from sae_circuits.features.store.database import Database, Lists, Table


@runtime_checkable
class Weights(Protocol):
    """What is said of each feature whatever it does on a corpus."""

    @property
    def norms(self) -> Float64[np.ndarray, "feature"]:
        """The length of what each feature writes, per unit of activation; NaN if not known."""
        ...

    @property
    def numbers(self) -> Mapping[str, Float64[np.ndarray, "feature"]]:
        """Columns of the table of features."""
        ...

    def logits(self) -> Iterator[tuple[str, Table]]:
        """The tokens at both ends of each feature's effect on the logits, and its histogram."""
        ...

    def neighbours(self, activations: Activations, k: int) -> Iterator[tuple[str, Table]]:
        """The features nearest to each by what they write."""
        ...


NUMBERS = ("decoder_norm", "logit_std", "logit_skew", "logit_kurtosis")


@dataclass(frozen=True, eq=False)
class NoWeights:
    """Of a source without them: all numbers are NaN, and there are no rows."""

    n_features: int

    @property
    def norms(self) -> Float64[np.ndarray, "feature"]:
        """NaN."""
        return np.full(self.n_features, np.nan)

    @property
    def numbers(self) -> Mapping[str, Float64[np.ndarray, "feature"]]:
        """NaN."""
        return dict.fromkeys(NUMBERS, self.norms)

    def logits(self) -> Iterator[tuple[str, Table]]:
        """None."""
        return iter(())

    def neighbours(self, activations: Activations, k: int) -> Iterator[tuple[str, Table]]:
        """None."""
        return iter(())


@dataclass(frozen=True, eq=False)
class HeldWeights:
    """What a store says already, for one of the same dictionary on more tokens."""

    database: Database

    @property
    def norms(self) -> Float64[np.ndarray, "feature"]:
        """As they stand in the table of features."""
        return self.numbers["decoder_norm"]

    @property
    def numbers(self) -> Mapping[str, Float64[np.ndarray, "feature"]]:
        """As they stand in the table of features."""
        return self._numbers

    @cached_property
    def _numbers(self) -> Mapping[str, Float64[np.ndarray, "feature"]]:
        held = self.database.query(f"SELECT {', '.join(NUMBERS)} FROM features ORDER BY feature")
        return {name: held[name].to_numpy(np.float64, na_value=np.nan) for name in NUMBERS}

    def logits(self) -> Iterator[tuple[str, Table]]:
        """All rows."""
        yield "logits", self.database.arrow("FROM logits")
        yield "distributions", self.database.arrow("FROM distributions WHERE kind = 'logit'")

    def neighbours(self, activations: Activations, k: int) -> Iterator[tuple[str, Table]]:
        """All rows."""
        yield "correlations", self.database.arrow("FROM correlations WHERE measure = 'decoder'")


@dataclass(frozen=True, eq=False)
class DictionaryWeights:
    """A dictionary in its model."""

    source: DictionarySource
    effects: LogitEffects

    @classmethod
    def of(cls, source: DictionarySource, k: int, bins: int) -> DictionaryWeights:
        """With k tokens at each end of the effects on the logits."""
        model, d_vocab = source.adapter.model, source.adapter.architecture.d_vocab
        return cls(source, logit_effects(model, source.dictionary, k=min(k, d_vocab), bins=bins))

    @property
    def norms(self) -> Float64[np.ndarray, "feature"]:
        """Of the decoder's rows."""
        return self._norms

    @cached_property
    def _norms(self) -> Float64[np.ndarray, "feature"]:
        return row_lengths(self.source.dictionary.W_dec)

    @property
    def numbers(self) -> Mapping[str, Float64[np.ndarray, "feature"]]:
        """Of the decoder's rows, and of their effects on the logits."""
        effects = self.effects
        found = (self.norms, effects.std, effects.skew, effects.kurtosis)
        return dict(zip(NUMBERS, found, strict=True))

    def logits(self) -> Iterator[tuple[str, Table]]:
        """The tokens at both ends of each feature's effect on the logits, and its histogram."""
        defined = np.flatnonzero(self.effects.counts.sum(1))
        for kind in ("top", "bottom"):
            tokens = getattr(self.effects, f"{kind}_tokens")[defined]
            values = getattr(self.effects, f"{kind}_values")[defined]
            n = tokens.shape[1]
            yield (
                "logits",
                {
                    "feature": np.repeat(defined, n),
                    "kind": [kind] * tokens.size,
                    "rank": np.tile(np.arange(1, n + 1), len(defined)),
                    "token": tokens.reshape(-1),
                    "effect": values.reshape(-1).astype(np.float64),
                },
            )
        if len(defined):
            yield (
                "distributions",
                {
                    "feature": defined,
                    "kind": ["logit"] * len(defined),
                    "edges": Lists.of(self.effects.edges[defined]),
                    "counts": Lists.of(self.effects.counts[defined]),
                },
            )

    def neighbours(self, activations: Activations, k: int) -> Iterator[tuple[str, Table]]:
        """The features nearest to each by what they write."""
        if activations.n_features > 1:
            found = similar(activations, self.source.dictionary.W_dec, k, by=["decoder"])
            yield "correlations", {name: found[name].to_numpy() for name in NEIGHBOUR}


NEIGHBOUR = ("feature", "measure", "rank", "other", "value")
