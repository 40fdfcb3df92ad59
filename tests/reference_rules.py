"""Other backward passes, written out: a `HookedTransformer`'s own parts with other gradients.

Inside `relp_rules()` or `gim_rules()` the parts of every `HookedTransformer` compute what they
always do, and autograd gives the method's gradients, so that the slow `eap` of
`reference_attribution` is the slow `relp` or `gim`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from transformer_lens import components


def _norm(self: Any, x: Tensor) -> Tensor:
    """A norm of any kind whose scale is a constant."""
    kind = type(self).__name__
    if "RMS" not in kind:
        x = x - x.mean(-1, keepdim=True)
    scale = (x.detach().pow(2).mean(-1, keepdim=True) + self.eps).sqrt()
    # the splits of the slow run ask for the scale of what comes after a layer
    x = x / self.hook_scale(scale)
    if "Pre" in kind:
        return x
    x = x * self.w
    return x if "RMS" in kind else x + self.b


def _ratio(act: Any, x: Tensor) -> Tensor:
    return x * (act(x) / x).detach()


def _half(product: Tensor) -> Tensor:
    return product / 2 + (product / 2).detach()


def _plain_mlp(self: Any, x: Tensor) -> Tensor:
    return _ratio(self.act_fn, x @ self.W_in + self.b_in) @ self.W_out + self.b_out


def _gated_mlp(ratio: bool) -> Any:
    def forward(self: Any, x: Tensor) -> Tensor:
        gate = x @ self.W_gate
        gate = _ratio(self.act_fn, gate) if ratio else self.act_fn(gate)
        return (_half(gate * (x @ self.W_in)) + self.b_in) @ self.W_out + self.b_out

    return forward


class _Soft(torch.autograd.Function):
    """A softmax whose gradient is that of a softmax at twice the temperature."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x - x.logsumexp(-1, keepdim=True)).exp()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        soft = (x / 2 - (x / 2).logsumexp(-1, keepdim=True)).exp()
        return soft * (g - (g * soft).sum(-1, keepdim=True))


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, by: float) -> Tensor:
        ctx.by = by
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.by, None


def _ports(own: Any) -> Any:
    def calculate(self: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = own(self, *args, **kwargs)
        return _Scaled.apply(q, 0.25), _Scaled.apply(k, 0.25), _Scaled.apply(v, 0.5)

    return calculate


def _norms() -> list[Any]:
    kinds = ("LayerNorm", "LayerNormPre", "RMSNorm", "RMSNormPre")
    return [patch.object(getattr(components, kind), "forward", _norm) for kind in kinds]


@contextmanager
def relp_rules(*, constant_patterns: bool = False) -> Iterator[None]:
    """Inside, gradients are those of relevance propagation."""
    with ExitStack() as stack:
        for change in (
            *_norms(),
            patch.object(components.MLP, "forward", _plain_mlp),
            patch.object(components.GatedMLP, "forward", _gated_mlp(True)),
        ):
            stack.enter_context(change)
        if constant_patterns:
            own = F.softmax
            held = lambda x, dim: own(_Scaled.apply(x, 0.0), dim)  # noqa: E731
            stack.enter_context(patch.object(F, "softmax", held))
        yield


@contextmanager
def gim_rules() -> Iterator[None]:
    """Inside, gradients are those of gradient interaction modifications."""
    kinds = (components.AbstractAttention, components.GroupedQueryAttention)
    with ExitStack() as stack:
        for change in (
            *_norms(),
            patch.object(components.GatedMLP, "forward", _gated_mlp(False)),
            patch.object(F, "softmax", lambda x, dim: _Soft.apply(x)),
            *(
                patch.object(kind, "calculate_qkv_matrices", _ports(kind.calculate_qkv_matrices))
                for kind in kinds
            ),
        ):
            stack.enter_context(change)
        yield
