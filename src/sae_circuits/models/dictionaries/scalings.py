"""Normalisations of a dictionary's input that depend on the input itself.

    x~ = (x - shift(x)) / divide(x),    output = y * multiply(x) + shift(x)

As a norm before an encoder is, they are held constant where a run is linearised by hand, and
followed by autograd elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Scale(NamedTuple):
    """What a token's input is shifted and divided by, and its output multiplied by."""

    shift: Float[Tensor, "*token 1"]
    divide: Float[Tensor, "*token 1"]
    multiply: Float[Tensor, "*token 1"]


Scaling = Callable[[Float[Tensor, "*token d_in"]], Scale]


def layer_norm(x: Float[Tensor, "*token d_in"], eps: float = 1e-5) -> Scale:
    """Mean 0 and deviation 1 (unbiased, as sae-lens has it)."""
    mean, deviation = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    return Scale(mean, deviation + eps, deviation)


def constant_norm(x: Float[Tensor, "*token d_in"]) -> Scale:
    """Norm sqrt(d_in)."""
    scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
    return Scale(x.new_zeros(*x.shape[:-1], 1), scale, scale)


SCALINGS: dict[str, Scaling] = {
    "layer_norm": layer_norm,
    "constant_norm_rescale": constant_norm,
}
