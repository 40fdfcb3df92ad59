"""Gates: which features are active, given their pre-activations.

Of every dictionary here the activation is the pre-activation where a gate is open, and 0 elsewhere:

    f = pre * gate(pre),    df/dpre = gate(pre)

The gate does not move under an infinitesimal change, so it is the derivative too. (Where a gate
opens or closes, the activation may jump; gradients do not see this, interventions do.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from sae_circuits.precision import wide_dtype

Gate = Callable[[Float[Tensor, "*token feature"]], Bool[Tensor, "*token feature"]]


def identity(pre: Float[Tensor, "*token feature"]) -> Bool[Tensor, "*token feature"]:
    """Open always: activations may be negative."""
    return torch.ones_like(pre, dtype=torch.bool)


def relu(pre: Float[Tensor, "*token feature"]) -> Bool[Tensor, "*token feature"]:
    """Open above 0."""
    return pre > 0


@dataclass(frozen=True)
class TopK:
    """Open for the k largest of a token that are above 0 (Gao et al. 2024, arXiv 2406.04093).

    With k features or fewer these are all that are above 0.
    """

    k: int

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Bool[Tensor, "*token feature"]:
        """Which features are active."""
        return _among_largest(pre, self.k) & (pre > 0)


@dataclass(frozen=True)
class AbsoluteTopK:
    """Open for the k largest of a token by absolute value; activations may be negative."""

    k: int

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Bool[Tensor, "*token feature"]:
        """Which features are active."""
        return _among_largest(pre.abs(), self.k)


@dataclass(frozen=True, eq=False)
class Threshold:
    """Open above 0 and above a threshold of each feature's (JumpReLU, arXiv 2407.14435)."""

    threshold: Float[Tensor, "feature"]

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Bool[Tensor, "*token feature"]:
        """Which features are active."""
        return (pre > self.threshold) & (pre > 0)


@dataclass(frozen=True, eq=False)
class Gated:
    """Open where a second affine map of the same directions is above 0 (arXiv 2404.16014).

    The gating pre-activation is that of the magnitude, scaled and shifted:
    `(pre - b_mag) / exp(r_mag) + b_gate`.
    """

    b_mag: Float[Tensor, "feature"]
    r_mag: Float[Tensor, "feature"]
    b_gate: Float[Tensor, "feature"]

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Bool[Tensor, "*token feature"]:
        """Which features are active."""
        return ((pre - self.b_mag) * torch.exp(-self.r_mag) + self.b_gate > 0) & (pre > 0)


def is_elementwise(gate: Gate) -> bool:
    """Whether a feature is active or not whatever the others are; gates of one's own may not be."""
    return gate in (identity, relu) or isinstance(gate, Threshold | Gated)


def gate_of_some(gate: Gate, index: Int64[Tensor, "some"]) -> Gate:
    """An elementwise gate for some of its features."""
    if isinstance(gate, Threshold):
        return Threshold(gate.threshold[index])
    if isinstance(gate, Gated):
        return Gated(gate.b_mag[index], gate.r_mag[index], gate.b_gate[index])
    return gate


def open_at(gate: Gate, pre: Float[Tensor, "token feature"]) -> Int64[Tensor, "active"]:
    """Where a gate is open, as rising indices of the flattened pre-activations.

    NaN is among them, though no gate is open for it, so that it is not lost.
    """
    if isinstance(gate, TopK | AbsoluteTopK):  # which need no pass over all features to be found
        x = pre.abs() if isinstance(gate, AbsoluteTopK) else pre
        k = min(gate.k, x.shape[1])
        found = x.topk(k, dim=1, sorted=False).indices.sort(dim=1).values
        found += pre.shape[1] * torch.arange(len(pre), device=pre.device)[:, None]
        found = found.flatten()
        return found[~(x.flatten()[found] <= 0)]
    if gate is identity:
        return nonzero(pre)
    active = gate(pre)
    if not pre.sum(dtype=wide_dtype(pre.dtype)).isfinite():
        active |= pre.isnan()
    return nonzero(active)


def nonzero(x: Shaped[Tensor, "token feature"]) -> Int64[Tensor, "active"]:
    """Where something is not 0, as rising indices of what is flattened."""
    if x.device.type != "cpu" or x.dtype == torch.bfloat16:
        return x.flatten().nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(x.numpy()))  # some times as fast as torch's


def _among_largest(x: Float[Tensor, "*token feature"], k: int) -> Bool[Tensor, "*token feature"]:
    largest = x.topk(min(k, x.shape[-1]), dim=-1, sorted=False).indices
    return torch.zeros_like(x, dtype=torch.bool).scatter_(-1, largest, True)
