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

ROUNDING = 1e-12


def combine(
    scores: Sequence[Scores],
    how: str = "mean",
    *,
    of: str = "ranks",
    weights: Sequence[float] | None = None,
) -> Scores:
    """Combine several scores of the same edges into one.

    Each x_i is made comparable with the others first, in a way that keeps signs and zeros:

        ranks           x_i = sign(s_i) rank(|s_i|) / n,  equal sizes sharing their mean rank
        standardised    x_i = s_i / sqrt(mean over edges of s_i^2)

    and then, edge by edge,

        mean    sum_i w_i x_i / sum_i w_i: where signs differ, they cancel
        min     the x_i of the smallest size where all have one sign, else 0: what all agree on
        max     the x_i of the largest size: what any one finds; of x and -x the mean's side

    so that |min| <= |mean| <= |max|. The values have no unit of the metric any more.

    Args:
        scores: of one graph; each a method's, say, or a seed's.
        how: "mean", "min" (as an intersection of circuits) or "max" (as a union).
        of: "ranks", for methods of any scale, or "standardised".
        weights: of the mean, one for each of the scores; equal ones by default.

    Returns:
        Scores in float64, whose provenance names what was combined and how.

    Raises:
        OptionError: no scores; weights that do not fit, are negative, or sum to zero; weights for
            what is no mean.
        UnknownName: another `how` or `of`.
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
    if how not in _RULES:
        raise unknown("way to combine", how, _RULES)
    if of not in _SCALES:
        raise unknown("scale", of, _SCALES)
    scores = tuple(scores)
    shares = _shares(scores, how, weights)
    first = scores[0]
    for i, other in enumerate(scores):
        first.graph.require_same(other.graph, f"scores {i}")
        _require_finite(other, i)
    device = first.values.device
    x = torch.stack([_SCALES[of](one, i).to(device) for i, one in enumerate(scores)])
    made = _provenance([one.provenance for one in scores], how, of, weights)
    return Scores(first.graph, _RULES[how](x, shares.to(device)), made)


# -- scales and rules ------------------------------------------------------------------------------


def _ranked(scores: Scores, i: int) -> Float[Tensor, "edge"]:
    return signed_ranks(scores.values)


def _standardised(scores: Scores, i: int) -> Float[Tensor, "edge"]:
    values = scores.values.double()
    scale = values.square().mean().sqrt()
    if not bool(scale > 0):
        raise NumericalError(f"scores {i} ({scores!r}) are all zero: there is nothing to scale")
    return values / scale


def _mean(x: Float[Tensor, "method edge"], shares: Float[Tensor, "method"]) -> Tensor:
    return shares @ x


def _min(x: Float[Tensor, "method edge"], shares: Tensor) -> Float[Tensor, "edge"]:
    agree = (x > 0).all(0) | (x < 0).all(0)
    return torch.where(agree, x.sign()[0] * x.abs().amin(0), 0.0)


def _max(x: Float[Tensor, "method edge"], shares: Tensor) -> Float[Tensor, "edge"]:
    high, low, mean = x.amax(0), x.amin(0), shares @ x
    side = torch.where(mean.abs() > ROUNDING * high, mean, 0.0)  # sums of ranks cancel but nearly
    side = torch.where(high + low == 0, side, high + low)
    return torch.where(side > 0, high, torch.where(side < 0, low, 0.0))


_SCALES: dict[str, Callable[[Scores, int], Tensor]] = {
    "ranks": _ranked, "standardised": _standardised,
}  # fmt: skip
_RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": _mean, "min": _min, "max": _max}


# -- checks and record -----------------------------------------------------------------------------


def _shares(
    scores: Sequence[Scores], how: str, weights: Sequence[float] | None
) -> Float[Tensor, "method"]:
    """The weights, divided by their sum."""
    if not scores:
        raise OptionError("no scores to combine: give a list of at least one")
    if weights is None:
        return torch.full((len(scores),), 1 / len(scores), dtype=torch.float64)
    if how != "mean":
        raise OptionError(f"weights are for the mean: the {how} of several scores takes none")
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
    made: Sequence[Provenance], how: str, of: str, weights: Sequence[float] | None
) -> Provenance:
    """What all have in common, and a record of each."""
    whole = {
        field.name: getattr(made[0], field.name)
        for field in fields(Provenance)
        if len({repr(getattr(one, field.name)) for one in made}) == 1
    }
    of_metric = f" of {whole['metric']}" if whole.get("metric") else ""
    names = ", ".join(one.method or "scores" for one in made)
    options: dict[str, Any] = {"how": how, "of": of, "scores": tuple(map(_record, made))}
    if weights is not None:
        options["weights"] = tuple(map(float, weights))
    return Provenance(
        **{
            **whole,
            "method": f"{how} of {_SAID[of][0]} ({names})",
            "metric": f"{_SAID[of][1]}{of_metric}",
            "options": options,
        }
    )


def _record(made: Provenance) -> dict[str, Any]:
    """A provenance in what files hold."""
    return {field.name: getattr(made, field.name) for field in fields(made)}


_SAID = {"ranks": ("ranks", "rank"), "standardised": ("standardised scores", "standard unit")}
