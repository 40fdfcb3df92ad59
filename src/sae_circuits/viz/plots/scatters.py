"""Two scores of the same edges, edge by edge."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from sae_circuits.errors import OptionError
from sae_circuits.evaluation.ranking import pearson, spearman
from sae_circuits.graph import Edges, Scores
from sae_circuits.viz.picture import BLUE, VERMILION
from sae_circuits.viz.plots.style import GREY, INK, axes_of, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 0.055  # of the plot's height, for a name
LETTERS = 7  # points


def scatter(scores: Scores, reference: Scores, *, n_named: int = 6) -> Figure:
    """A scatter of scores against those of a reference, such as `exact`, with correlations.

    The edges that are furthest from it are marked and named at the side.

    Args:
        scores: upwards.
        reference: to the right, of the same graph.
        n_named: how many edges are named.

    Raises:
        GraphError: scores of different graphs.
        OptionError: a number below 0.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task, graph = sc.tasks.ioi(model, n=8, seed=0), sc.TensorGraph.from_model(model)
        >>> few, many = (sc.attribute(model, graph, task, steps=steps) for steps in (2, 20))
        >>> figure = sc.viz.scatter(few, many, n_named=3)
        >>> len(figure.axes[0].texts)
        3
    """
    reference.graph.require_same(scores.graph, "the first scores")
    if n_named < 0:
        raise OptionError(f"n_named={n_named}: name 0 edges or more")
    x, y = (s.values.detach().cpu().double() for s in (reference, scores))
    figure, axes = axes_of(5.6 if n_named else 4.2, 4.0)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    axes.plot([low, high], [low, high], color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=1)
    worst = (y - x).abs().sort(descending=True, stable=True).indices[:n_named].sort().values
    worst = worst[x[worst] != y[worst]]
    named = torch.isin(torch.arange(len(x)), worst)
    for some, colour, size, alpha in ((~named, BLUE, 12, 0.55), (named, VERMILION, 22, 0.95)):
        axes.scatter(
            x[some].tolist(), y[some].tolist(), s=size, color=colour, alpha=alpha, linewidths=0
        )
    axes.set_xlabel(f"{reference.provenance.method or 'reference'}{unit_of(reference)}")
    axes.set_ylabel(f"{scores.provenance.method or 'scores'}{unit_of(scores)}")
    axes.set_title(_correlations(x, y), fontsize=9, loc="left", color=INK)
    axes.set_box_aspect(1)
    names = [edge.name for edge in Edges(scores.graph, worst)]
    _name(axes, x[worst].tolist(), y[worst].tolist(), names)
    return figure


def _correlations(x: Float[Tensor, "edge"], y: Float[Tensor, "edge"]) -> str:
    """Pearson's and Spearman's, of which there is none where all scores are equal."""
    both = (f"{r:.3f}" if isfinite(r) else "–" for r in (pearson(x, y), spearman(x, y)))
    return "Pearson {}, Spearman {} over {:,} edges".format(*both, len(x))


def _name(axes: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> None:
    """Name points to the right of the plot, in their order upwards, each joined to its point."""
    bottom, top = axes.get_ylim()
    axes.set_xlim(*axes.get_xlim())
    axes.set_ylim(bottom, top)
    order = sorted(range(len(names)), key=lambda i: (y[i], x[i]))
    wished = [(y[i] - bottom) / (top - bottom) for i in order]
    for i, at in zip(order, _apart(wished), strict=True):
        axes.annotate(
            names[i],
            (x[i], y[i]),
            (1.04, at),
            textcoords="axes fraction",
            fontsize=LETTERS,
            color=INK,
            va="center",
            arrowprops={
                "arrowstyle": "-", "color": VERMILION, "lw": 0.5, "alpha": 0.6,
                "relpos": (0, 0.5), "shrinkA": 2, "shrinkB": 2,
            },
        )  # fmt: skip


def _apart(wished: Sequence[float]) -> list[float]:
    """Heights from 0 to 1 in the order given, as near to those wished as lines of text allow.

    >>> [round(at, 3) for at in _apart([0.5, 0.5, 0.9])]
    [0.473, 0.528, 0.9]
    """
    step = min(LINE, 1 / max(len(wished), 1))
    pools: list[tuple[float, int]] = []  # the mean wish of neighbours that touch, and their number
    for i, wish in enumerate(wished):
        pools.append((wish - i * step, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n)]
    starts = [mean for mean, size in pools for _ in range(size)]
    highest = 1 - (len(wished) - 1) * step
    return [min(max(start, 0.0), highest) + i * step for i, start in enumerate(starts)]
