"""`combine`: one score for each edge from those of several methods, seeds or tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import NumericalError, OptionError, unknown
from sae_circuits.graph import Provenance, Scores
from sae_circuits.graph.ranks import signed_ranks

ROUNDING = 1e-12  # of a sum of ranks, which are at most 1


def combine(
    scores: Sequence[Scores], how: str = "mean", *, weights: Sequence[float] | None = None
) -> Scores:
    """Combine several scores of the same edges into one.

    By ranks, with r_i the share of edges whose scores are no larger by size (equal ones sharing
    their mean rank), signed as the score is, and 0 where it is 0:

        mean        v mean_i |r_i|
        min         v min_i |r_i|       large where all find the edge, as an intersection
        max         v max_i |r_i|       large where any one does, as a union

    with v the sign of sum_i r_i: where signs differ, the larger ranks outvote the smaller, and on a
    tie the first score that is not 0 decides. By the scores themselves:

        weighted    sum_i w_i z_i / sum_i w_i,    z_i = s_i / sqrt(mean over edges of s_i^2)

    Scores that are combined have no unit of the metric any more.

    Args:
        scores: of one graph: of several methods, say, or seeds.
        how: "mean", "min" or "max" of ranks, or "weighted" for the mean of standardised scores.
        weights: of the weighted mean, one for each of the scores; equal ones by default.

    Returns:
        Scores in float64, whose provenance names what was combined and how.

    Raises:
        OptionError: no scores; weights that do not fit, are negative, or sum to zero; weights for
            ranks.
        UnknownName: another `how`.
        GraphError: scores of other graphs.
        NumericalError: a score that is not finite; scores to be standardised that are all zero.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> graph = sc.TensorGraph.from_model(model)
        >>> each = [sc.attribute(model, graph, task, method=m) for m in ("eap", "eap-ig")]
        >>> sc.combine(each).provenance.method
        'mean of ranks (eap, eap-ig)'

    Reference: Mondorf et al. 2025, arXiv 2510.06811 (there: parallel ensembles).
    """
    if how not in WAYS:
        raise unknown("way to combine", how, WAYS)
    scores = tuple(scores)
    shares = _shares(scores, how, weights)
    first = scores[0]
    for i, other in enumerate(scores):
        first.graph.require_same(other.graph, f"scores {i}")
        _require_finite(other, i)
    made = _provenance([one.provenance for one in scores], how, shares)
    device = first.values.device
    if how == "weighted":
        z = torch.stack([_standardised(one, i).to(device) for i, one in enumerate(scores)])
        return Scores(first.graph, shares.to(device) @ z, made)
    ranks = torch.stack([signed_ranks(one.values).to(device) for one in scores])
    return Scores(first.graph, _vote(ranks) * SIZES[how](ranks.abs()), made)


SIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda sizes: sizes.mean(0),
    "min": lambda sizes: sizes.amin(0),
    "max": lambda sizes: sizes.amax(0),
}
WAYS = (*SIZES, "weighted")


def _vote(ranks: Float[Tensor, "method edge"]) -> Float[Tensor, "edge"]:
    """The sign of each edge."""
    total = ranks.sum(0)
    tied = total.abs() <= ROUNDING * len(ranks)
    first = (ranks != 0).int().argmax(0, keepdim=True)  # of those that are not 0; any, if all are
    return torch.where(tied, ranks.gather(0, first)[0], total).sign()


def _standardised(scores: Scores, i: int) -> Float[Tensor, "edge"]:
    """The scores in units of their root mean square."""
    values = scores.values.double()
    scale = values.square().mean().sqrt()
    if not bool(scale > 0):
        raise NumericalError(f"scores {i} ({scores!r}) are all zero: there is nothing to scale")
    return values / scale


# -- checks and record -----------------------------------------------------------------------------


def _shares(
    scores: Sequence[Scores], how: str, weights: Sequence[float] | None
) -> Float[Tensor, "method"]:
    """The weights, divided by their sum."""
    if not scores:
        raise OptionError("no scores to combine: give a list of at least one")
    if weights is None:
        return torch.full((len(scores),), 1 / len(scores), dtype=torch.float64)
    if how != "weighted":
        raise OptionError(f"weights are for how='weighted': the {how} of ranks takes none")
    given = torch.as_tensor(weights, dtype=torch.float64)
    right = given.shape == (len(scores),) and bool((given.isfinite() & (given >= 0)).all())
    if not right or not float(given.sum()) > 0:
        raise OptionError(
            f"weights {tuple(weights)!r} do not fit {len(scores)} scores: one for each, none below "
            "zero and not all zero"
        )
    return given / given.sum()


def _require_finite(scores: Scores, i: int) -> None:
    bad = (~scores.values.isfinite()).nonzero()[:, 0]
    if len(bad):
        name = scores.graph.edges[int(bad[0])].name
        raise NumericalError(
            f"scores {i} ({scores!r}) are not finite at {len(bad):,} edges, the first {name!r}: "
            "attribute again"
        )


def _provenance(
    made: Sequence[Provenance], how: str, shares: Float[Tensor, "method"]
) -> Provenance:
    """What all have in common, and a record of each."""
    whole = {
        field.name: getattr(made[0], field.name)
        for field in fields(Provenance)
        if len({repr(getattr(one, field.name)) for one in made}) == 1
    }
    names = ", ".join(one.method or "scores" for one in made)
    options: dict[str, Any] = {"how": how, "scores": tuple(map(_record, made))}
    if how == "weighted":
        options["weights"] = tuple(shares.tolist())
        method, unit = f"weighted mean ({names})", "standard unit"
    else:
        method, unit = f"{how} of ranks ({names})", "rank"
    metric = f"{unit} of {whole['metric']}" if whole.get("metric") else unit
    return Provenance(**{**whole, "method": method, "metric": metric, "options": options})


def _record(made: Provenance) -> dict[str, Any]:
    """A provenance in what files hold."""
    return {field.name: getattr(made, field.name) for field in fields(made)}
