"""What pruners rank by, and the checks that they share."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import GraphError, NumericalError, in_words
from sae_circuits.graph import Scores, SpanScores
from sae_circuits.graph.given import require_scores

ORDERS = ("abs", "help", "hurt")


def ranked(values: Float[Tensor, "item"], by: str) -> Float[Tensor, "item"]:
    """Turn scores into what is ranked, largest first: `|s|`, `-s` or `s`.

    Raises:
        GraphError: another `by` than "abs", "help" or "hurt".
    """
    if by not in ORDERS:
        raise GraphError(f"cannot order by {by!r}: one of {', '.join(map(repr, ORDERS))}")
    return {"abs": torch.abs, "help": torch.neg, "hurt": torch.clone}[by](values)


def sizes(scores: Scores | SpanScores[Scores], by: str) -> Float[Tensor, "edge"]:
    """Return what each edge is ranked by.

    Raises:
        GraphError: another `by` than "abs", "help" or "hurt"; or scores by span.
        NumericalError: a score is not a number, and so has no rank.
    """
    require_scores(scores)
    if isinstance(scores, SpanScores):
        raise GraphError(
            "this pruner takes scores of edges, and these are by span: take top_n or threshold, "
            "or prune scores.total or the scores of one span"
        )
    bad = scores.values.isnan().nonzero()[:, 0]
    if len(bad):
        name = scores.graph.edges[int(bad[0])].name
        raise NumericalError(
            f"{len(bad):,} scores are not numbers, the first that of {name!r}: attribute again"
        )
    return ranked(scores.values, by)


def check_count(n: int, most: int, what: str, where: str) -> None:
    """Raise a `GraphError` unless there are n things to keep."""
    if not isinstance(n, int):
        raise GraphError(f"{in_words(n)} {what} asked for: give a whole number, up to {most:,}")
    if n < 0:
        raise GraphError(f"{n:,} {what} asked for: give 0 or more")
    if n > most:
        raise GraphError(f"{n:,} {what} asked for, the graph has {most:,}: {where}")
