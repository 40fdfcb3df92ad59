"""`logit_effects`: what features do to the logits by themselves, for every token of the vocabulary.

    effect[f, t] = (g * direction[f]) . W_U[:, t]  -  its mean over the vocabulary

with g the gain of the final norm, or 1. The norm's scale, which divides all effects at a token
alike, its centring and a cap of the logits are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int32, Int64
from torch import Tensor

from sae_circuits.errors import NumericalError, OptionError
from sae_circuits.features.corpus import Vocabulary
from sae_circuits.features.effects.directions import (
    Features,
    HasDirections,
    direction_tile,
    feature_ids,
    require_stream,
    tiles,
)
from sae_circuits.features.effects.final import Final
from sae_circuits.features.effects.largest import largest
from sae_circuits.graph.tables import rows_table
from sae_circuits.models.adapter import Adapter
from sae_circuits.progress import track

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class LogitEffects:
    """What some features do to the logits, per unit of activation; the mean over tokens is 0.

    Of a feature whose effects do not differ, such as one with a decoder row of 0, all is undefined:
    tokens are -1, counts 0 and numbers NaN.

    Args:
        features: their ids, in the order asked for.
        gain: whether the gain of the final norm is in it.
        top_tokens: the tokens made more likely, the most first; ties by the lower id.
        top_values: their effects.
        bottom_tokens, bottom_values: those made less likely.
        counts: of tokens in equal bins from the lowest to the highest effect.
        edges: of the bins, [low, high), the last one closed.
        std, skew, kurtosis: of the effects over the vocabulary, as of a whole population; the
            kurtosis of a normal distribution is 3.
    """

    features: Int64[np.ndarray, "feature"]
    gain: bool
    top_tokens: Int32[np.ndarray, "feature k"]
    top_values: Float32[np.ndarray, "feature k"]
    bottom_tokens: Int32[np.ndarray, "feature k"]
    bottom_values: Float32[np.ndarray, "feature k"]
    counts: Int64[np.ndarray, "feature bin"]
    edges: Float64[np.ndarray, "feature bin+1"]
    std: Float64[np.ndarray, "feature"]
    skew: Float64[np.ndarray, "feature"]
    kurtosis: Float64[np.ndarray, "feature"]

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        _, k = self.top_tokens.shape
        return f"LogitEffects({len(self)} features, {k} tokens at each end, gain={self.gain})"

    def to_pandas(self) -> pandas.DataFrame:
        """Columns `feature`, `std`, `skew`, `kurtosis`, `top_token` and `bottom_token`."""
        columns = {
            "feature": self.features, "std": self.std, "skew": self.skew,
            "kurtosis": self.kurtosis, "top_token": self.top_tokens[:, 0],
            "bottom_token": self.bottom_tokens[:, 0],
        }  # fmt: skip
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return rows_table([dict(zip(columns, row, strict=True)) for row in rows])

    def tokens(self, feature: int, vocabulary: Vocabulary | None = None) -> pandas.DataFrame:
        """The tokens at both ends of one feature, the most raised first, the most lowered last.

        Columns `token`, `text` (None without a vocabulary) and `effect`; no row where undefined.

        Raises:
            OptionError: a feature that is not among these.
        """
        found = np.flatnonzero(self.features == feature)
        if not len(found):
            raise OptionError(f"no logit effects of feature {feature} here: ask for it")
        i, (n, k) = found[0], (int(self.counts[found[0]].sum()), self.top_tokens.shape[1])
        low = slice(max(0, 2 * k - n), None)  # a small vocabulary's ends may meet
        ids = np.concatenate([self.top_tokens[i], self.bottom_tokens[i][::-1][low]])
        values = np.concatenate([self.top_values[i], self.bottom_values[i][::-1][low]])
        return rows_table([
            {"token": t, "text": vocabulary[t] if vocabulary else None, "effect": value}
            for t, value in zip(ids.tolist(), values.tolist(), strict=True)
            if t >= 0
        ]).reindex(columns=["token", "text", "effect"])  # fmt: skip


@torch.no_grad()
def logit_effects(
    model: Any,
    dictionary: HasDirections,
    features: Features = None,
    *,
    k: int = 10,
    bins: int = 50,
    gain: bool = True,
) -> LogitEffects:
    """The direct effect of each feature on the logits: top and bottom tokens, and the distribution.

    A feature's numbers are the same to the bit whichever others are asked for. At no time is there
    more than one tile of features by the vocabulary.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        dictionary: of features, or the neurons of one layer.
        features: their ids, in any order; all without it.
        k: how many tokens at each end.
        bins: of the histogram.
        gain: whether directions are multiplied by the gain of the final norm.

    Raises:
        OptionError: an id that the dictionary lacks; k or bins out of range.
        DictionaryError: see `stream_directions`.
        NumericalError: weights that are not finite, by name.

    Reference: nostalgebraist, "interpreting GPT: the logit lens" (2020); for features, arXiv
    2309.08600.

    >>> import sae_circuits as sc
    >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["resid_post.3"])
    >>> effects = logit_effects(model, sae, k=3)
    >>> effects
    LogitEffects(256 features, 3 tokens at each end, gain=True)
    >>> int(effects.counts[0].sum()) == model.cfg.d_vocab
    True
    """
    adapter = Adapter.of(model)
    require_stream(adapter, dictionary)
    ids = feature_ids(dictionary, features)
    _require_sizes(k, bins, adapter.architecture.d_vocab)
    final = Final.of(adapter, *(W.dtype for W in getattr(dictionary, "decoders", ())))
    found = _nothing(ids, k, bins, gain)
    every = list(tiles(ids))
    for tile, own, at in track(every, description="logit effects"):
        directions = direction_tile(adapter, dictionary, tile)
        directions = final.gained(directions) if gain else directions.to(final.dtype)
        _fill(found, own, _effects(final, directions, at, ids[own]), k, bins)
    return found


def _require_sizes(k: int, bins: int, d_vocab: int) -> None:
    if not 1 <= k <= d_vocab:
        raise OptionError(f"k is {k}: take from 1 to {d_vocab}, all tokens of the vocabulary")
    if bins < 1:
        raise OptionError(f"bins is {bins}: take at least 1")


def _nothing(ids: Int64[np.ndarray, "feature"], k: int, bins: int, gain: bool) -> LogitEffects:
    """All undefined."""
    n = len(ids)
    tokens = [np.full((n, k), -1, dtype=np.int32) for _ in range(2)]
    values = [np.full((n, k), np.nan, dtype=np.float32) for _ in range(2)]
    counts, edges = np.zeros((n, bins), dtype=np.int64), np.full((n, bins + 1), np.nan)
    moments = [np.full(n, np.nan) for _ in range(3)]
    ends = tokens[0], values[0], tokens[1], values[1]
    return LogitEffects(ids, gain, *ends, counts, edges, *moments)


@dataclass(frozen=True, eq=False)
class _Effects:
    """Effects of some features before they are centred, and what is to be taken off each."""

    raw: Float[Tensor, "feature vocab"]
    mean: Float64[np.ndarray, "feature"]


def _effects(
    final: Final,
    directions: Float[Tensor, "feature d_model"],
    at: Int64[np.ndarray, "own"],
    ids: Int64[np.ndarray, "own"],
) -> _Effects:
    """Those of the asked for among a tile, of which all are computed.

    Raises:
        NumericalError: effects beyond the range of floats.
    """
    raw = directions.new_empty(len(directions), final.n_tokens)
    start = 0
    for product in final.products(directions):
        raw[:, start : start + product.shape[1]] = product
        start += product.shape[1]
    own = torch.from_numpy(at).to(raw.device)
    raw, mean = raw[own], (directions.double() @ final.mean)[own]
    good = raw.sum(1, dtype=torch.float64).isfinite() & mean.isfinite()
    if not bool(good.all()):
        bad = ids[int((~good).nonzero()[0])]
        raise NumericalError(f"logit effects of feature {bad} are not finite: scale its row down")
    return _Effects(raw, mean.cpu().numpy())


def _fill(
    found: LogitEffects, own: Int64[np.ndarray, "own"], effects: _Effects, k: int, bins: int
) -> None:
    """Write the numbers of some features where they belong."""
    mean = effects.mean[:, None]
    top, bottom = largest(effects.raw, k), largest(-effects.raw, k)
    high = top.values[:, 0].double().cpu().numpy() - effects.mean
    low = -bottom.values[:, 0].double().cpu().numpy() - effects.mean
    differ = high > low
    there = own[differ]
    found.top_tokens[there] = top.places.cpu().numpy()[differ]
    found.bottom_tokens[there] = bottom.places.cpu().numpy()[differ]
    found.top_values[there] = (top.values.double().cpu().numpy() - mean)[differ]
    found.bottom_values[there] = (-bottom.values.double().cpu().numpy() - mean)[differ]
    found.edges[there] = np.linspace(low[differ], high[differ], bins + 1, axis=1)
    for i, moments, counts in _rows(effects, low, high, np.flatnonzero(differ), bins):
        found.std[own[i]], found.skew[own[i]], found.kurtosis[own[i]] = moments
        found.counts[own[i]] = counts


def _rows(
    effects: _Effects,
    low: Float64[np.ndarray, "feature"],
    high: Float64[np.ndarray, "feature"],
    which: Int64[np.ndarray, "some"],
    bins: int,
) -> Iterator[tuple[int, tuple[float, float, float], Int64[np.ndarray, "bin"]]]:
    """Moments and histogram of some features: each row is read once, in float64."""
    raw, n = effects.raw.cpu().numpy(), effects.raw.shape[1]
    x, x2, bin_of = np.empty(n), np.empty(n), np.empty(n, dtype=np.int64)
    for i in which.tolist():
        np.subtract(raw[i], effects.mean[i], out=x, dtype=np.float64)
        np.multiply(x, x, out=x2)
        std = (x2.sum() / n) ** 0.5
        skew, kurtosis = x2 @ x / n / std**3, x2 @ x2 / n / std**4
        np.subtract(x, low[i], out=x)
        np.multiply(x, bins / (high[i] - low[i]), out=x)
        np.copyto(bin_of, x, casting="unsafe")
        counts = np.bincount(bin_of, minlength=bins + 1)
        counts[bins - 1] += counts[bins:].sum()  # the highest stands on the last edge
        yield i, (std, skew, kurtosis), counts[:bins]
