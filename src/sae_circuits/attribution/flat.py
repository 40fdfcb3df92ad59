"""Whether a metric is flat where its gradient is taken, so that all scores would be rounding.

A batch may be flat with good reason: a metric that saturates (a probability of 1, a hinge) has no
slope on examples that are far beyond. So one batch is not refused; a whole task is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import MetricError

_ROUNDINGS = 8  # of the metric's own dtype; KL's gradient at its minimum is about one


def is_flat(
    gradient: Float[Tensor, "batch vocab"],
    value: Float[Tensor, "batch"],
    logits: Float[Tensor, "batch vocab"],
    measure: Callable[[Tensor], Tensor],
) -> bool:
    """Whether a gradient at the logits is no larger than what rounding makes of zero.

    It is compared with the metric's size, and with its gradient at half the logits: a metric at
    its minimum, such as KL at the clean run, is zero and has a slope elsewhere.
    """
    steepest = float(gradient.abs().max())
    rounding = _ROUNDINGS * torch.finfo(value.dtype).eps
    if steepest <= rounding * float(value.abs().max()):
        return True
    if steepest > 1e-3:  # far from rounding, so that the metric need not be called again
        return False
    with torch.enable_grad():
        halved = (logits.detach() / 2).requires_grad_()
        (elsewhere,) = torch.autograd.grad(measure(halved).sum(), halved)
    return steepest <= rounding * float(elsewhere.abs().max())


def require_slope(flat: list[bool], metric: str, method: str) -> None:
    """Raise a `MetricError` where every gradient that was taken is flat."""
    if flat and all(flat):
        raise MetricError(
            f"metric {metric!r} has no gradient at any run where {method!r} takes it, so that all "
            "scores would be zero: it is constant there, or at its minimum, as kl is at the clean "
            "run; use eap-ig or clean-corrupted, or another metric, such as logit_diff"
        )
