"""On which coordinates a feature's decoder row lies, and on which heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64

from sae_circuits.errors import DictionaryError, OptionError
from sae_circuits.features.asked import Features, feature_ids
from sae_circuits.features.effects.largest import largest
from sae_circuits.graph.tables import rows_table
from sae_circuits.models.dictionaries import Dictionary

if TYPE_CHECKING:
    import pandas

_ROWS = 1024  # features at a time


@dataclass(frozen=True, eq=False)
class NeuronAlignment:
    """The largest entries of some features' decoder rows.

    Of a row of 0 all is undefined: neurons are -1, and numbers NaN.

    Args:
        features: their ids, in the order asked for.
        neurons: the coordinates, by absolute value; ties by the lower one.
        values: the entries there, with their signs.
        shares: of the row's L1 norm.
    """

    features: Int64[np.ndarray, "feature"]
    neurons: Int32[np.ndarray, "feature k"]
    values: Float32[np.ndarray, "feature k"]
    shares: Float64[np.ndarray, "feature k"]

    def __len__(self) -> int:
        return len(self.features)

    def to_pandas(self) -> pandas.DataFrame:
        """Columns `feature`, `neuron`, `value` and `share`; no row where undefined."""
        every = zip(self.features, self.neurons, self.values, self.shares, strict=True)
        return rows_table([
            {"feature": int(f), "neuron": int(n), "value": float(v), "share": float(s)}
            for f, neurons, values, shares in every
            for n, v, s in zip(neurons, values, shares, strict=True)
            if n >= 0
        ]).reindex(columns=["feature", "neuron", "value", "share"])  # fmt: skip


@torch.no_grad()
def neuron_alignment(
    dictionary: Dictionary, features: Features = None, *, k: int = 3
) -> NeuronAlignment:
    """Entries of W_dec[f] by absolute value, with their signs and their shares of the L1 norm.

    They are coordinates of where the (first) decoder writes, which for an SAE is its input space.

    Args:
        dictionary: of the features.
        features: their ids, in any order; all without it.
        k: how many entries.

    Raises:
        UnknownName: an id that the dictionary lacks.
        OptionError: k out of range.

    >>> import sae_circuits as sc
    >>> (sae,) = sc.load_saes("demo", ["mlp_out.1"])
    >>> bool((neuron_alignment(sae, [7], k=64).shares.sum(1) - 1 < 1e-6).all())
    True
    """
    ids = feature_ids(features, dictionary.n_features)
    n, width = len(ids), dictionary.W_dec.shape[1]
    if not 1 <= k <= width:
        raise OptionError(f"k is {k}: {dictionary!r} writes {width} coordinates, so 1 to {width}")
    neurons = np.full((n, k), -1, dtype=np.int32)
    values, shares = np.full((n, k), np.nan, dtype=np.float32), np.full((n, k), np.nan)
    for start in range(0, n, _ROWS):
        some = slice(start, start + _ROWS)
        index = torch.from_numpy(ids[some]).to(dictionary.W_dec.device)
        rows = dictionary.W_dec[index].detach().double()
        norms, own = rows.abs().sum(1, keepdim=True), largest(rows.abs(), k)
        live = (norms[:, 0] > 0).cpu().numpy()
        at = np.arange(n)[some][live]
        neurons[at] = own.places.cpu().numpy()[live]
        values[at] = rows.gather(1, own.places).cpu().numpy()[live]
        shares[at] = (own.values / norms).cpu().numpy()[live]
    return NeuronAlignment(ids, neurons, values, shares)


@torch.no_grad()
def head_shares(
    dictionary: Dictionary, n_heads: int, features: Features = None
) -> Float64[np.ndarray, "feature head"]:
    """How a feature's decoder row on z is spread over the heads.

        share[f, h] = norm(W_dec[f, h]) / sum over heads j of norm(W_dec[f, j])

    Args:
        dictionary: of z.
        n_heads: of its layer.
        features: their ids, in any order; all without it.

    Returns:
        Shares that sum to 1; NaN for a row of 0.

    Raises:
        DictionaryError: one that writes elsewhere, or to other heads.
        UnknownName: an id that the dictionary lacks.

    Reference: arXiv 2406.17759, where norms are over that of the row; dashboards of the field
    divide by their sum, as here.

    >>> import sae_circuits as sc
    >>> (sae,) = sc.load_saes("demo", ["z.1"])
    >>> head_shares(sae, 4, [7]).sum().round(6)
    np.float64(1.0)
    """
    site, width = dictionary.writes[0], dictionary.W_dec.shape[1]
    if site.kind != "z" or n_heads < 1 or width % n_heads:
        raise DictionaryError(
            f"{dictionary!r} writes {width} numbers at {site.name}: {n_heads} heads have a share "
            "in the rows of a dictionary of their z"
        )
    index = torch.from_numpy(feature_ids(features, dictionary.n_features)).to(
        dictionary.W_dec.device
    )
    norms = [
        dictionary.W_dec[some].detach().double().unflatten(1, (n_heads, -1)).norm(dim=2)
        for some in index.split(_ROWS)
    ]
    each = torch.cat(norms) if norms else torch.zeros(0, n_heads, dtype=torch.float64)
    return (each / each.sum(1, keepdim=True)).cpu().numpy()
