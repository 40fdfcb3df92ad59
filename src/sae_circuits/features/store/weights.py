"""What a store says of features from their weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae_circuits.features.activations import Activations
from sae_circuits.features.effects import LogitEffects, logit_effects
from sae_circuits.features.relations import similar
from sae_circuits.features.sources import DictionarySource, Source
from sae_circuits.features.store.database import Lists, Table
from sae_circuits.models.dictionaries import Dictionary


@dataclass(frozen=True, eq=False)
class Weights:
    """A dictionary in its model; for other sources all numbers are NaN, and there are no rows."""

    n_features: int
    source: DictionarySource | None = None
    effects: LogitEffects | None = None

    @classmethod
    def of(cls, source: Source | None, n_features: int, k: int, bins: int) -> Weights:
        """Of a source, with k tokens at each end of the effects on the logits."""
        if not isinstance(source, DictionarySource):
            return cls(n_features)
        model, d_vocab = source.adapter.model, source.adapter.architecture.d_vocab
        effects = logit_effects(model, source.dictionary, k=min(k, d_vocab), bins=bins)
        return cls(n_features, source, effects)

    @property
    def _dictionary(self) -> Dictionary | None:
        return None if self.source is None else self.source.dictionary

    @property
    def norms(self) -> Float64[np.ndarray, "feature"]:
        """The length of what each feature writes, per unit of activation."""
        if self._dictionary is None:
            return np.full(self.n_features, np.nan)
        return _norms(self._dictionary.W_dec)

    @property
    def numbers(self) -> Mapping[str, Float64[np.ndarray, "feature"]]:
        """More columns of the table of features."""
        found: dict[str, Any] = {"decoder_norm": self.norms}
        for name in ("std", "skew", "kurtosis"):
            nothing = np.full(self.n_features, np.nan)
            found[f"logit_{name}"] = getattr(self.effects, name, nothing)
        return found

    def logits(self) -> Iterator[tuple[str, Table]]:
        """The tokens at both ends of each feature's effect on the logits, and its histogram."""
        if self.effects is None:
            return
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
        if self._dictionary is not None and self.n_features > 1:
            found = similar(activations, self._dictionary.W_dec, k, by=["decoder"])
            yield "correlations", {name: found[name].to_numpy() for name in NEIGHBOUR}


NEIGHBOUR = ("feature", "measure", "rank", "other", "value")


def _norms(W: Float[Tensor, "feature d_out"]) -> Float64[np.ndarray, "feature"]:
    return torch.linalg.vector_norm(W.detach().double(), dim=1).cpu().numpy()
