"""On which devices a model's parts are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sae_circuits.errors import ModelError


def device_of(module: nn.Module, x: Tensor) -> torch.device:
    """Where a module computes; where x is, of a module without parameters."""
    return next(module.parameters(), x).device


def require_in_memory(model: Any, parameters: Iterable[nn.Parameter]) -> None:
    """Refuse a model some of whose weights come to a device only while their layer runs.

    Raises:
        ModelError: with how many of them there are.
    """
    each = list(parameters)
    away = sum(parameter.is_meta for parameter in each)
    if away:
        raise ModelError(
            f"{away:,} of the {len(each):,} weights of this {type(model).__name__} are offloaded: "
            "accelerate brings them to a device only while their layer runs, and a circuit needs "
            "them at other times. Load it whole, on one device or divided over several: "
            "device_map='balanced' without 'cpu' or 'disk' in it, n_devices=2, or dtype="
            "torch.bfloat16 to halve it; or all of it on the processor, device='cpu'"
        )
