"""What features write to the residual stream, per unit of activation.

What stands in the stream is its own direction; an SAE of z is carried there by W_O, head by head,
and summed:

    direction[f] = sum over heads h of W_dec[f, h] W_O[h]

Features are taken in tiles that begin at multiples of `TILE`, whichever of them are asked for, so
that a feature's numbers come out of the same products, and are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import DictionaryError
from sae_circuits.features.asked import Features, feature_ids
from sae_circuits.graph import Neurons, Split
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.neurons import PlacedNeurons
from sae_circuits.precision import wide

TILE = 16  # features that are computed together

HasDirections = Dictionary | Neurons


@torch.no_grad()
def stream_directions(
    model: Any, dictionary: HasDirections, features: Features = None
) -> Float[Tensor, "feature d_model"]:
    """What each feature adds to the residual stream per unit of its activation.

    Where a norm stands between heads and stream, that is with its gain and given its scale, by
    which it still divides. A dictionary that writes in several layers adds the sum of its rows.

    Args:
        model: a TransformerLens model of either kind.
        dictionary: of features, or the neurons of one layer, `Neurons.of(architecture, "m3")`.
        features: their ids, in any order; all without it.

    Returns:
        One row for each, in float32 at least.

    Raises:
        DictionaryError: a dictionary of another model, or one that writes what an MLP reads, which
            is no part of the stream.
        UnknownName: an id that the dictionary lacks.

    >>> import sae_circuits as sc
    >>> model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["z.1"])
    >>> stream_directions(model, sae, [3, 4]).shape
    torch.Size([2, 64])
    """
    adapter = Adapter.of(model)
    require_stream(adapter, dictionary)
    ids = feature_ids(features, dictionary.n_features)
    rows = [(own, direction_tile(adapter, dictionary, tile)[at]) for tile, own, at in tiles(ids)]
    d_model = adapter.architecture.d_model
    dtype = rows[0][1].dtype if rows else torch.float32
    found = torch.empty(len(ids), d_model, dtype=dtype, device=adapter.device)
    for own, directions in rows:
        found[own] = directions
    return found


def writes_to_stream(dictionary: HasDirections) -> bool:
    """Whether it writes to the residual stream, and not what an MLP reads."""
    return all(site.kind not in ("mlp_normalized", "mlp_in") for site in dictionary.writes)


def require_stream(adapter: Adapter, dictionary: HasDirections) -> None:
    """Refuse a dictionary that does not fit the model, or that writes nothing to its stream."""
    if not isinstance(dictionary, HasDirections):
        raise DictionaryError(
            f"{type(dictionary).__name__} is no Dictionary: read one with load_saes(...)"
        )
    dictionary.require_fits(adapter.architecture)
    if not writes_to_stream(dictionary):
        raise DictionaryError(
            f"{dictionary!r} writes what an MLP reads, and nothing to the residual stream: take a "
            "dictionary of z, attn_out, mlp_out or the stream, or a transcoder"
        )


def tiles(
    ids: Int64[np.ndarray, "feature"],
) -> Iterator[tuple[int, Int64[np.ndarray, "own"], Int64[np.ndarray, "own"]]]:
    """The tiles that hold some features: each one's number, places in `ids`, and rows in it."""
    numbers = ids // TILE
    for tile in np.unique(numbers):
        own = np.flatnonzero(numbers == tile)
        yield int(tile), own, ids[own] - tile * TILE


def direction_tile(
    adapter: Adapter, dictionary: HasDirections, tile: int
) -> Float[Tensor, "feature d_model"]:
    """The directions of all features of one tile."""
    some = range(tile * TILE, min((tile + 1) * TILE, dictionary.n_features))
    if isinstance(dictionary, Neurons):
        split = Split(dictionary.part, dictionary.layer, dictionary)
        own = cast("Dictionary", dictionary)  # of which their number alone is needed
        return _at_least_single(PlacedNeurons(adapter, split, own, some).W_dec)
    carried = [
        in_stream(adapter, site, _at_least_single(W[some.start : some.stop].to(adapter.device)))
        for site, W in zip(dictionary.writes, dictionary.decoders, strict=True)
    ]
    return torch.stack(carried).sum(0) if len(carried) > 1 else carried[0]


def in_stream(
    adapter: Adapter, site: Site, W: Float[Tensor, "feature d_out"]
) -> Float[Tensor, "feature d_model"]:
    """Rows of a decoder as they arrive in the stream."""
    if site.kind != "z":
        return W
    heads = adapter.W_write(site.layer).to(W.dtype)
    return W @ heads.flatten(0, 1)


def _at_least_single(x: Tensor) -> Tensor:
    return wide(x)
