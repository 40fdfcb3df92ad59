"""Which features write the same: cosines of all pairs of decoder rows, tile by tile.

A first product in float32 finds the rows that can be among the nearest; their cosines are then
made anew in float64, pair by pair, so that no bit depends on the tiles.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sae_circuits.errors import DictionaryError
from sae_circuits.features.nearest import Neighbours, k_largest
from sae_circuits.progress import track

TILE = 512  # rows of the left at a time
PAIRS = 2**14  # pairs whose cosines are made anew at a time


def unit_rows(W_dec: Float[Tensor, "feature d_out"]) -> Float64[np.ndarray, "feature d_out"]:
    """Decoder rows of length 1; rows of 0 stay 0.

    Raises:
        DictionaryError: NaN or infinity, with the feature.
    """
    rows = W_dec.detach().double().cpu().numpy()
    finite = np.isfinite(rows).all(1)
    if not finite.all():
        raise DictionaryError(f"decoder row {np.argmin(finite)} holds NaN or infinity")
    largest = np.abs(rows).max(1, keepdims=True, initial=0.0)
    rows = rows / np.where(largest > 0, largest, 1.0)  # so that no square is too large or small
    lengths = np.sqrt((rows * rows).sum(1, keepdims=True))
    return rows / np.where(lengths > 0, lengths, 1.0)


def nearest_decoders(
    left: Float64[np.ndarray, "left d_out"],
    right: Float64[np.ndarray, "right d_out"],
    features: Int64[np.ndarray, "left"],
    k: int,
    *,
    same: bool,
) -> Neighbours:
    """The k rows on the right with the largest cosine, ties by id; none for rows of 0.

    Args:
        left, right: rows of length 1, or of 0.
        features: the ids of the rows on the left.
        same: these are ids on the right too, and none is its own neighbour.

    Returns:
        With `together` all 0: nothing is said of activations.
    """
    parts: list[tuple[int, Int64[np.ndarray, "some"], Float64[np.ndarray, "some"]]] = []
    right32 = torch.from_numpy(right.astype(np.float32))
    alive = torch.from_numpy(right.any(1))
    for first in track(range(0, len(left), TILE), description="decoder cosines"):
        rows = left[first : first + TILE]
        about = torch.from_numpy(rows.astype(np.float32)) @ right32.T
        about[:, ~alive] = -torch.inf
        if same:
            about[
                torch.arange(len(rows)), torch.from_numpy(features[first : first + TILE])
            ] = -torch.inf
        close = _can_be_nearest(about, k, right.shape[1])
        for row in np.flatnonzero(rows.any(1)).tolist():
            ids = close[row].nonzero()[:, 0].numpy()
            cosines = _cosines(rows[row], right, ids)
            best = k_largest(cosines, ids, k)
            parts.append((int(features[first + row]), ids[best], cosines[best]))
    none = np.zeros(0, dtype=np.int64)
    ids = np.concatenate([none, *(ids for _, ids, _ in parts)])
    return Neighbours(
        np.repeat(np.array([f for f, _, _ in parts], np.int64), [len(p[1]) for p in parts]),
        ids,
        np.concatenate([np.zeros(0), *(cosines for _, _, cosines in parts)]),
        np.zeros_like(ids),
    )


def _can_be_nearest(about: Float[Tensor, "row right"], k: int, d_out: int) -> torch.Tensor:
    """Which cosines may be among a row's k largest, given how far float32 can be off."""
    off = 2 * (d_out + 4) * torch.finfo(torch.float32).eps
    kth = about.topk(min(k, about.shape[1]), dim=1).values[:, -1:]
    return (about >= kth - 2 * off) & (about > -torch.inf)


def _cosines(
    row: Float64[np.ndarray, "d_out"],
    right: Float64[np.ndarray, "right d_out"],
    ids: Int64[np.ndarray, "some"],
) -> Float64[np.ndarray, "some"]:
    """Cosines with some rows, each summed in the same order whatever the others are."""
    pieces = [ids[i : i + PAIRS] for i in range(0, len(ids), PAIRS)]
    found = [(right[piece] * row).sum(1) for piece in pieces]
    return np.concatenate([np.zeros(0), *found]).clip(-1.0, 1.0)
