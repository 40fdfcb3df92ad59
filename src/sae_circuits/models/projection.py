"""What makes queries, keys or values of what some heads read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map for each of some heads, with its bias."""

    W: Float[Tensor, "head d_model d_head"]
    bias: Float[Tensor, "head d_head"] | None

    def __call__(
        self, read: Float[Tensor, "head *row pos d_model"]
    ) -> Float[Tensor, "head *row pos d_head"]:
        """Each head's own, of what that head reads."""
        rows = read.flatten(1, -2)
        if self.bias is None:
            out = torch.bmm(rows, self.W)
        else:
            out = torch.baddbmm(self.bias[:, None], rows, self.W)
        return out.unflatten(1, read.shape[1:-1])
