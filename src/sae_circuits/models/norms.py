"""The norms between the stream and its readers, as linear maps given their scale.

A norm is `y = w * (x - centre * mean(x)) / s + b` with `s = sqrt(mean(x~^2) + eps)`. With x^ the
normalised stream before w, its Jacobian transposed, applied to a cotangent c, is

    J^T c = P (w * c) / s - x^ (x^ . (w * c)) / (d_model s)

where P removes the mean if the norm does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Norm:
    """What is needed of a norm: whether it centres, its epsilon and its gain."""

    centres: bool
    eps: float
    weight: Float[Tensor, "d_model"] | None
    bias: Float[Tensor, "d_model"] | None = None

    @classmethod
    def of(cls, module: nn.Module | None, cfg: Any) -> Norm | None:
        """Read a norm of a TransformerLens model; None where the stream is read as it is."""
        if module is None or isinstance(module, nn.Identity):
            return None
        inner: Any = getattr(module, "original_component", None)
        kind = type(module).__name__
        centres = not getattr(module, "uses_rms_norm", "RMS" in kind)
        if inner is None:  # a HookedTransformer's own norm
            return cls(
                centres, _number(module, cfg), _detached(module, "w"), _detached(module, "b")
            )
        if "Pre" in kind:  # folded: no gain, no bias
            return cls(centres, _number(inner, cfg), None)
        weight = _detached(inner, "weight")
        if weight is not None and getattr(module.config, "rmsnorm_uses_offset", False):
            weight = 1 + weight
        return cls(centres, _number(inner, cfg), weight, _detached(inner, "bias"))

    @property
    def bare(self) -> Norm:
        """The same without gain and bias."""
        return replace(self, weight=None, bias=None)

    def to(self, device: torch.device) -> Norm:
        """The same on a device."""
        weight, bias = (None if x is None else x.to(device) for x in (self.weight, self.bias))
        return replace(self, weight=weight, bias=bias)

    def __call__(self, x: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token d_model"]:
        """The norm itself, as one fused operation."""
        shape = x.shape[-1:]
        if self.centres:
            return F.layer_norm(x, shape, self.weight, self.bias, self.eps)
        return F.rms_norm(x, shape, self.weight, self.eps)

    def normalise(
        self, x: Float[Tensor, "*token d_model"]
    ) -> tuple[Float[Tensor, "*token d_model"], Float[Tensor, "*token 1"]]:
        """The normalised stream before gain and bias, and the scale that it was divided by."""
        x = self.centre(x)
        scale = (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()
        return x / scale, scale

    def pull_back(
        self, c: Float[Tensor, "*any batch pos d_model"], x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "*any batch pos d_model"]:
        """`J^T c` for cotangents c of what it makes of x."""
        normed, scale = self.normalise(x)
        u = self.gain(c)
        along = torch.linalg.vecdot(u, normed)[..., None] / x.shape[-1]
        return (self.centre(u) - normed * along) / scale

    def centre(self, x: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        """Remove the mean, if this norm does."""
        return x - x.mean(-1, keepdim=True) if self.centres else x

    def gain(self, c: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        """Multiply by the gain, if this norm has one."""
        return c if self.weight is None else c * self.weight


def _detached(module: nn.Module, name: str) -> Tensor | None:
    value = getattr(module, name, None)
    return value.detach() if isinstance(value, torch.Tensor) else None


def _number(module: nn.Module, cfg: Any) -> float:
    for name in ("eps", "variance_epsilon"):
        if (eps := getattr(module, name, None)) is not None:
            return float(eps)
    return float(getattr(cfg, "eps", 1e-5))
