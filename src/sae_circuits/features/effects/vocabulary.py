"""Sums over a large vocabulary, and the tokens at its ends."""

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

# -- log of the sum of exp of the logits L' = L - v y, over that of L, whose log is the total ------

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def by_exp(v: Tensor, y: Tensor, after: Tensor, total: Tensor) -> Float[Tensor, "row"]:
    """As it stands; `after`, which is L', is used up."""
    return after.exp_().sum(1).log() - total


def by_difference(v: Tensor, y: Tensor, after: Tensor, total: Tensor) -> Float[Tensor, "row"]:
    """Exact where little changes."""
    less = v * y
    return ((torch.exp(after + less) * torch.expm1(-less)).sum(1) / total.exp()).log1p()


def by_logs(v: Tensor, y: Tensor, after: Tensor, total: Tensor) -> Float[Tensor, "row"]:
    """Where exp would overflow."""
    return after.logsumexp(1) - total


# -- ends ------------------------------------------------------------------------------------------


class Tokens(NamedTuple):
    """Some tokens of each pair, and how much higher the feature makes their log probability."""

    ids: Int64[Tensor, "pair k"]
    values: Float[Tensor, "pair k"]


@dataclass(frozen=True, eq=False)
class Likely:
    """The tokens on which a feature's own effects are at the ends.

    Args:
        ids: of the tokens.
        low, high: between which the effects on all others lie.
    """

    ids: Int64[Tensor, "token"]
    low: Float[Tensor, ""]
    high: Float[Tensor, ""]

    @classmethod
    def of(cls, effects: Float[Tensor, "vocab"]) -> Likely:
        """Of a feature."""
        high, low = effects.topk(LIKELY), effects.topk(LIKELY, largest=False)
        return cls(torch.cat([high.indices, low.indices]), low.values[-1], high.values[-1])


def extreme_tokens(y: Float[Tensor, "row vocab"], k: int) -> Int64[Tensor, "row some"]:
    """Tokens among which the k largest and the k smallest of each row are; -1 for none.

    Blocks are made of every n-th token, and the tokens that are left make one more.

    >>> set(extreme_tokens(torch.arange(100.0)[None], 1)[0].tolist()) >= {0, 99}
    True
    """
    n = y.shape[1]
    even = n - n % BLOCK
    parts = [y[:, :even].unflatten(1, (BLOCK, -1))] if even else []
    parts += [y[:, even:, None]] if even < n else []
    high = torch.cat([part.amax(1) for part in parts], 1)
    low = -torch.cat([part.amin(1) for part in parts], 1)
    tokens = torch.arange(n, device=y.device)
    blocks = tokens[:even].view(BLOCK, -1).T
    if even < n:
        blocks = torch.cat([blocks, pad(tokens[None, even:], (0, BLOCK - n + even), value=-1)])
    most, least = (x.topk(min(k, len(blocks)), 1).indices for x in (high, low))
    twice = (least[:, :, None] == most[:, None]).any(2)
    other = blocks[least].masked_fill_(twice[:, :, None], -1)
    return torch.cat([blocks[most], other], 1).flatten(1)


def ordered(ids: Int64[Tensor, "row k"], values: Float[Tensor, "row k"], sign: int) -> Tokens:
    """The largest first, or the smallest for a sign of -1; ties by the lower id."""
    ids, by = ids.sort(1)
    _, order = (sign * values.gather(1, by)).sort(dim=1, descending=True, stable=True)
    return Tokens(ids.gather(1, order), values.gather(1, by.gather(1, order)))
