"""What a store says of features from their weights alone: of a model, or of another store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from sae_circuits.features.activations import Activations
from sae_circuits.features.analysis.kinds import row_lengths
from sae_circuits.features.effects import (
    LogitEffects,
    NeuronAlignment,
    head_shares,
    logit_effects,
    neuron_alignment,
    writes_to_stream,
)
from sae_circuits.features.relations import similar
from sae_circuits.features.sources import DictionarySource
from sae_circuits.features.store.database import Database, Lists, Table
from sae_circuits.features.store.schema import OWN

if TYPE_CHECKING:
    import pandas


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

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Rows that need no activations: effects on the logits, neurons and heads."""
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

    def tables(self) -> Iterator[tuple[str, Table]]:
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

    def tables(self) -> Iterator[tuple[str, Table]]:
        """All rows."""
        for name in ("logits", "neurons", "heads"):
            yield name, self.database.arrow(f"FROM {name}")
        yield "distributions", self.database.arrow("FROM distributions WHERE kind = 'logit'")

    def neighbours(self, activations: Activations, k: int) -> Iterator[tuple[str, Table]]:
        """All rows."""
        yield "correlations", self.database.arrow("FROM correlations WHERE measure = 'decoder'")


@dataclass(frozen=True, eq=False)
class DictionaryWeights:
    """A dictionary in its model."""

    source: DictionarySource
    effects: LogitEffects | None  # of what does not write to the stream there are none
    alignment: NeuronAlignment

    @classmethod
    def of(
        cls, source: DictionarySource, *, logits: int, bins: int, neurons: int
    ) -> DictionaryWeights:
        """With so many tokens at each end of the effects on the logits, and neurons of each."""
        model, dictionary = source.adapter.model, source.dictionary
        k = min(logits, source.adapter.architecture.d_vocab)
        known = writes_to_stream(dictionary)
        effects = logit_effects(model, dictionary, k=k, bins=bins) if known else None
        neurons = min(neurons, dictionary.W_dec.shape[1])
        return cls(source, effects, neuron_alignment(dictionary, k=neurons))

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
        names, undefined = ("std", "skew", "kurtosis"), np.full(len(self.norms), np.nan)
        found = (undefined if self.effects is None else getattr(self.effects, n) for n in names)
        return dict(zip(NUMBERS, (self.norms, *found), strict=True))

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Rows that need no activations: effects on the logits, neurons and heads."""
        if self.effects is not None:
            yield from self._logits(self.effects)
        yield "neurons", self._neurons()
        if self.source.dictionary.writes[0].kind == "z":
            yield "heads", self._heads()

    def _logits(self, effects: LogitEffects) -> Iterator[tuple[str, Table]]:
        """The tokens at both ends of each feature's effect on the logits, and its histogram."""
        defined = np.flatnonzero(effects.counts.sum(1))
        for kind in ("top", "bottom"):
            tokens = getattr(effects, f"{kind}_tokens")[defined]
            values = getattr(effects, f"{kind}_values")[defined]
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
                    "edges": Lists.of(effects.edges[defined]),
                    "counts": Lists.of(effects.counts[defined]),
                },
            )

    def _neurons(self) -> Table:
        """The coordinates on which each feature's decoder row mostly lies."""
        row, place = np.nonzero(self.alignment.neurons >= 0)
        return {
            "feature": self.alignment.features[row],
            "rank": place + 1,
            "neuron": self.alignment.neurons[row, place],
            "value": self.alignment.values[row, place].astype(np.float64),
            "share": self.alignment.shares[row, place],
        }

    def _heads(self) -> Table:
        """The share of each head in each feature's decoder row."""
        shares = head_shares(self.source.dictionary, self.source.adapter.architecture.n_heads)
        row, head = np.nonzero(np.isfinite(shares))
        return {"feature": row, "head": head, "share": shares[row, head]}

    def neighbours(self, activations: Activations, k: int) -> Iterator[tuple[str, Table]]:
        """The features nearest to each by what they write."""
        if activations.n_features > 1:
            found = similar(activations, self.source.dictionary.W_dec, k, by=["decoder"])
            yield "correlations", neighbour_rows(found)


def neighbour_rows(found: pandas.DataFrame, among: str = OWN) -> Table:
    """Rows of the table of correlations, of what `relations` finds."""
    names = ("feature", "measure", "rank", "other", "value")
    found = found.sort_values("feature", kind="stable")  # so that those of one are found at once
    return {"among": [among] * len(found), **{name: found[name].to_numpy() for name in names}}
