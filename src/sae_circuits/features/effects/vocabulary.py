"""Sums over a large vocabulary, and the tokens at its ends: the likely ones, or block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

LIKELY = 64  # tokens on which a feature's own effects are largest, among which to look first
BLOCK = 32  # tokens of which the extremes are noted, to find the most extreme among


# -- sums ------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """How the log of the sum of exp of the logits changes, by parts of the vocabulary.

    Args:
        part: of v, y and the logits L' = L - v y, which are used up.
        whole: of the parts' stack, and the log of the sum before.
    """

    part: Callable[[Tensor, Tensor, Tensor], Tensor]
    whole: Callable[[Tensor, Tensor], Tensor]


BY_EXP = Rule(
    lambda v, y, after: after.exp_().sum(1), lambda sums, total: sums.sum(0).log() - total
)
BY_DIFFERENCE = Rule(  # which is exact where little changes
    lambda v, y, after: (torch.exp(torch.addcmul(after, v, y)) * torch.expm1(-v * y)).sum(1),
    lambda sums, total: (sums.sum(0) / total.exp()).log1p(),
)
BY_LOGS = Rule(  # where exp would overflow
    lambda v, y, after: after.logsumexp(1), lambda sums, total: sums.logsumexp(0) - total
)


# -- ends ------------------------------------------------------------------------------------------


class Tokens(NamedTuple):
    """Some tokens of each pair, and how much higher the feature makes their log probability."""

    ids: Int64[Tensor, "pair k"]
    values: Float[Tensor, "pair k"]


@dataclass(frozen=True, eq=False)
class Likely:
    """The tokens on which each feature's own effects are at the ends.

    Args:
        ids: of the tokens.
        low, high: between which the effects on all others lie.
    """

    ids: Int64[Tensor, "feature token"]
    low: Float[Tensor, "feature 1"]
    high: Float[Tensor, "feature 1"]

    @classmethod
    def of(cls, effects: Float[Tensor, "feature vocab"]) -> Likely:
        """Of some features."""
        high, low = effects.topk(LIKELY, 1), effects.topk(LIKELY, 1, largest=False)
        ids = torch.cat([high.indices, low.indices], 1)
        return cls(ids, low.values[:, -1:], high.values[:, -1:])


def extremes(
    x: Float[Tensor, "row some"], extreme: Callable[..., Tensor]
) -> list[Float[Tensor, "row block"]]:
    """Those of blocks of every n-th column, and of the columns that are left: see `blocks_of`."""
    even = x.shape[1] - x.shape[1] % BLOCK
    found = [extreme(x[:, :even].unflatten(1, (BLOCK, -1)), dim=1)] if even else []
    return found + ([extreme(x[:, even:], dim=1, keepdim=True)] if even < x.shape[1] else [])


def blocks_of(n_tokens: int, size: int, device: torch.device) -> Int64[Tensor, "block size"]:
    """Which tokens `extremes` takes together, in parts of a size; -1 for none."""
    found = list[Tensor]()
    for part in torch.arange(n_tokens, device=device).split(size):
        even = len(part) - len(part) % BLOCK
        found.append(part[:even].view(BLOCK, -1).T)
        if even < len(part):
            found.append(pad(part[None, even:], (0, BLOCK - len(part) + even), value=-1))
    return torch.cat(found)


def ordered(ids: Int64[Tensor, "row k"], values: Float[Tensor, "row k"], sign: int) -> Tokens:
    """The largest first, or the smallest for a sign of -1; ties by the lower id."""
    ids, by = ids.sort(1)
    _, order = (sign * values.gather(1, by)).sort(dim=1, descending=True, stable=True)
    return Tokens(ids.gather(1, order), values.gather(1, by.gather(1, order)))
