"""Whether a model really is the sum of the parts that the graph takes it for."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.cache.run import run
from sae_circuits.errors import UnsupportedModel
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.tail import Tail

TOKENS = 8  # of one prompt: enough for every part to be used
TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.03}  # else 1e-3; of the logits' size

_checked: WeakSet[Any] = WeakSet()


@torch.no_grad()
def check_model(adapter: Adapter, tokens: Int64[Tensor, "batch pos"]) -> None:
    """Refuse a model whose parts, run one by one, do not give the logits of its own forward pass.

    So a model whose stream is more than the sum of its heads and MLPs (a multiplier on the
    residual or on the logits, say) is noticed, whatever its configuration says. Done once for
    each model object, on a few tokens of one prompt.

    Raises:
        UnsupportedModel: with the largest difference.
    """
    if adapter.model in _checked:
        return
    few = tokens[:1, :TOKENS]
    last = torch.tensor([few.shape[1] - 1], device=adapter.device)
    own = adapter.forward(few)[:, -1]
    made = run(adapter, few, last)
    parts = Tail(adapter, made.calls, last).from_layer(0, made.writes["input"])
    difference = max((x - own).abs().max().item() for x in (made.logits, parts))
    tolerance = TOLERANCE.get(adapter.dtype, 1e-3) * (1 + own.abs().max().item())
    if difference > tolerance:
        raise UnsupportedModel(
            f"the parts of {adapter.architecture.model!r} do not add up to its own forward pass "
            f"(logits differ by {difference:.2g}): a hook of yours that changes activations, a "
            "multiplier on the residual or the logits, or layers that this library does not know"
        )
    _checked.add(adapter.model)
