"""What a page shows of a curve, where the curve is that of the page's circuits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sae_circuits.errors import OptionError
from sae_circuits.explorer.view import Measured

if TYPE_CHECKING:
    from sae_circuits.evaluation import Curve
    from sae_circuits.explorer.drawable import Drawable


def measured(curve: Curve, drawable: Drawable) -> Measured:
    """What is shown of a curve beside a drawing whose size goes along it.

    Raises:
        OptionError: the curve is not of the circuits that the drawing shows at other sizes.
    """
    if why := _apart(curve, drawable):
        raise OptionError(f"{why}: give the curve of these scores, or leave it out")
    random = [sum(at) / len(at) for at in zip(*curve.random, strict=True)]
    low, high = zip(*curve.band, strict=True) if curve.band else ((), ())
    metric = curve.provenance.metric
    return Measured(metric, curve.n_edges, curve.faithfulness, low, high, tuple(random))


def _apart(curve: Curve, drawable: Drawable) -> str | None:
    """Why a curve is not that of a drawing, if it is not."""
    if drawable.overlap is not None or drawable.measure != "score":
        what = "two circuits have" if drawable.overlap else "an attribution graph has"
        return f"a curve is of the scores of one circuit, and {what} none"
    if drawable.by is None:
        return "the circuit has no scores, and a curve is of the best edges by them"
    if drawable.own:
        return (
            "the circuit is not the best of its size by score, and a curve is of circuits that are"
        )
    if curve.pruner not in ("", "top_n"):
        return f"the curve is of circuits by {curve.pruner!r}, and the page's are the best by score"
    if curve.by != drawable.by:
        return f"the curve is by {curve.by!r}, and the circuit is the best by {drawable.by!r}"
    sizes = tuple(int(fraction * drawable.n_edges) for fraction in curve.fractions)
    if sizes != curve.n_edges:
        n = int(curve.n_edges[-1] / curve.fractions[-1])
        return f"the curve is of a graph of {n:,} edges, and this one has {drawable.n_edges:,}"
    for name in ("model", "method", "metric"):
        theirs, ours = getattr(curve.provenance, name), getattr(drawable.provenance, name)
        if theirs and ours and theirs != ours:
            return f"the {name} of the curve is {theirs!r}, and that of the circuit {ours!r}"
    return None
