"""`logit_effects`: what features do to the logits by themselves, for every token of the vocabulary.

    effect[f, t] = (g * direction[f]) . W_U[:, t]  -  its mean over the vocabulary

with g the gain of the final norm, or 1. The norm's scale, which divides all effects at a token
alike, its centring and a cap of the logits are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int32, Int64, Integer
from torch import Tensor

from sae_circuits.errors import NumericalError, OptionError
from sae_circuits.features.asked import Features, feature_ids
from sae_circuits.features.corpus import Vocabulary
from sae_circuits.features.effects.directions import (
    TILE,
    HasDirections,
    direction_tile,
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
        UnknownName: an id that the dictionary lacks.
        OptionError: k or bins out of range.
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
    ids = feature_ids(features, dictionary.n_features)
    _require_sizes(k, bins, adapter.architecture.d_vocab)
    final = Final.of(adapter, *(W.dtype for W in getattr(dictionary, "decoders", ())))
    found = _nothing(ids, k, bins, gain)
    every = list(tiles(ids))
    for tile, own, at in track(every, description="logit effects"):
        directions = direction_tile(adapter, dictionary, tile)
        directions = final.gained(directions) if gain else directions.to(final.dtype)
        _fill(found, own, *_products(final, directions, at))
    return found


@torch.no_grad()
def effect_rows(
    final: Final, directions: Float[Tensor, "feature d_model"]
) -> tuple[Float[Tensor, "feature vocab"], Float64[Tensor, "feature"]]:
    """The effects of some directions on the logit of every token, not centred, and their means.

    Args:
        final: the end of the model, whose gain is in them.
        directions: see `stream_directions`.
    """
    found = directions.new_empty(len(directions), final.n_tokens, dtype=final.dtype)
    gained = final.gained(directions)
    for start in range(0, len(gained), TILE):
        rows = gained[start : start + TILE]
        whole = torch.nn.functional.pad(rows, (0, 0, 0, TILE - len(rows)))  # one size for all
        parts = torch.cat([part[: len(rows)] for part in final.products(whole)], 1)
        found[start : start + TILE] = parts
    return found, gained.double() @ final.mean


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


def _products(
    final: Final, directions: Float[Tensor, "feature d_model"], at: Int64[np.ndarray, "own"]
) -> tuple[Float[Tensor, "own vocab"], Float64[Tensor, "own"]]:
    """directions W_U of the asked for among a tile, of which all are computed, and their means."""
    raw, start = directions.new_empty(len(directions), final.n_tokens), 0
    for product in final.products(directions):
        raw[:, start : start + product.shape[1]] = product
        start += product.shape[1]
    own = torch.from_numpy(at).to(raw.device)
    mean = (directions.double() @ final.mean)[own].cpu()
    return (raw if len(at) == len(raw) and (np.diff(at) == 1).all() else raw[own]), mean


def _fill(
    found: LogitEffects,
    own: Int64[np.ndarray, "own"],
    raw: Float[Tensor, "own vocab"],
    mean: Float64[Tensor, "own"],
) -> None:
    """Write the numbers of some features where they belong.

    Raises:
        NumericalError: effects beyond the range of floats.
    """
    k, bins = found.top_tokens.shape[1], found.counts.shape[1]
    top, bottom = largest(raw, k), largest(raw, k, smallest=True)
    tops, bottoms = (x.double().cpu() - mean[:, None] for x in (top.values, bottom.values))
    low, high = bottoms[:, 0], tops[:, 0]
    good = low.isfinite() & high.isfinite()
    if not bool(good.all()):
        bad = found.features[own[int((~good).nonzero()[0])]]
        raise NumericalError(f"logit effects of feature {bad} are not finite: scale its row down")
    differ = (high > low).numpy()
    there = own[differ]
    found.top_tokens[there] = top.places.cpu().numpy()[differ]
    found.bottom_tokens[there] = bottom.places.cpu().numpy()[differ]
    found.top_values[there], found.bottom_values[there] = tops[differ], bottoms[differ]
    found.edges[there] = np.linspace(low.numpy()[differ], high.numpy()[differ], bins + 1, axis=1)
    raw, row = raw.cpu(), _Row.of(raw.shape[1], bins)
    for i in np.flatnonzero(differ).tolist():
        row.read(raw[i], mean[i])
        found.std[own[i]], found.skew[own[i]], found.kurtosis[own[i]] = row.moments()
        found.counts[own[i]] = row.histogram(low[i], high[i], bins)


class _Row(NamedTuple):
    """Space for the effects of one feature in float64, and for what is made of them."""

    x: Float64[Tensor, "vocab"]
    space: Float64[Tensor, "vocab"]
    bin_of: Integer[Tensor, "vocab"]

    @classmethod
    def of(cls, n: int, bins: int) -> _Row:
        """For so many tokens."""
        x = torch.empty(n, dtype=torch.float64)
        small = torch.uint8 if bins < 256 else torch.int32  # the smaller, the faster counted
        return cls(x, torch.empty_like(x), torch.empty(n, dtype=small))

    def read(self, raw: Float[Tensor, "vocab"], mean: Float64[Tensor, ""]) -> None:
        """Take the effects of a feature, centred."""
        self.x.copy_(raw).sub_(mean)

    def moments(self) -> tuple[float, float, float]:
        """Deviation, skew and kurtosis, about 0, which is the mean."""
        x2, n = torch.mul(self.x, self.x, out=self.space), len(self.x)
        std = (torch.dot(self.x, self.x) / n).sqrt()
        skew, kurtosis = torch.dot(x2, self.x) / n / std**3, torch.dot(x2, x2) / n / std**4
        return std.item(), skew.item(), kurtosis.item()

    def histogram(
        self, low: Float64[Tensor, ""], high: Float64[Tensor, ""], bins: int
    ) -> Int64[Tensor, "bin"]:
        """How many tokens each bin holds; the highest, on the last edge, is in the last one."""
        width = bins / (high - low).item()
        torch.add(-low * width, self.x, alpha=width, out=self.space)
        self.bin_of.copy_(self.space)  # which cuts off, and nothing is below 0
        counts = torch.bincount(self.bin_of, minlength=bins + 1)
        counts[bins - 1] += counts[bins]
        return counts[:bins]
