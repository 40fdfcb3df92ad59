"""In which order a page shows edges: those of the circuit first, and then the next best."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.errors import NumericalError
from sae_circuits.prune.keys import ORDERS, ranked


@dataclass(frozen=True, eq=False)
class Ranks:
    """Edges, or pairs of a span and an edge, by rank.

    Args:
        ids: the first is the first to be kept; ties go to the lower id.
        size: how many of them are in the circuit: the first ones.
        by: "abs", "help" or "hurt": what they are ranked by; None where there are no scores.
        own: whether the circuit's are first though others have a better score.
    """

    ids: Int64[Tensor, "item"]
    size: int
    by: str | None
    own: bool = False


def rank(
    inside: Bool[Tensor, "item"],
    scores: Float[Tensor, "item"] | None,
    most: int,
    by: str | None = None,
) -> Ranks:
    """Rank the items of a circuit and those that would come next, at most so many of all.

    Where a circuit is the best of its size by one of the orders, the first n of the ranks are what
    `prune.top_n` keeps, for every n. Any other circuit comes first, in the order of size.

    Args:
        by: the order that is tried first, for a circuit that is the best by several.

    Raises:
        NumericalError: a score is not a number, or is infinite.
    """
    size = int(inside.sum())
    if scores is None:
        return Ranks(inside.nonzero()[:, 0][:most], min(size, most), None)
    if not bool(scores.isfinite().all()):
        raise NumericalError(
            f"{int((~scores.isfinite()).sum()):,} scores are not finite numbers, and have no "
            "place in a page: attribute again"
        )
    for one in sorted(ORDERS, key=lambda one: one != by):
        order = ranked(scores, one).sort(descending=True, stable=True).indices
        if bool(inside[order[:size]].all()):
            return Ranks(order[:most], min(size, most), one)
    order = ranked(scores, "abs").sort(descending=True, stable=True).indices
    chosen = inside[order]
    ids = torch.cat([order[chosen], order[~chosen]])[:most]
    return Ranks(ids, min(size, most), "abs", own=True)
