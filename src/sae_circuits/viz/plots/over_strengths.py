"""A metric against the strength of steering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from sae_circuits.errors import OptionError
from sae_circuits.viz.plots.style import GREY, INK, SERIES, SMALL, axes_of

if TYPE_CHECKING:
    from sae_circuits.evaluation.steered import Steered


def strengths(given: Steered | Mapping[str, Steered]) -> Figure:
    """A metric's mean over a task against the strength of steering, beside the model by itself.

    Bands are 95% bootstrap intervals over examples.

    Args:
        given: what `steer` gave with a task, or several of one metric by the names that they are
            to have.

    Raises:
        OptionError: nothing that was measured, or several metrics.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> (sae,) = sc.load_saes("demo", ["z.1"])
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> done = sc.steer(model, sae, {228: ("add", 4.0)}, task=task, strengths=[0, 1, 2])
        >>> sc.viz.strengths(done).axes[0].get_ylabel()
        'logit_diff'
    """
    named = dict(given) if isinstance(given, Mapping) else {given.changes: given}
    metrics = {done.provenance.metric for done in named.values()}
    if len(metrics) != 1 or not all(metrics):
        raise OptionError(
            f"the metrics are {sorted(metrics)}: draw what steer(...) gave with a task, of one "
            "metric"
        )
    figure, axes = axes_of(5.2, 3.1 + 0.19 * len(named))
    for i, (name, done) in enumerate(named.items()):
        colour, marker = SERIES[i % len(SERIES)]
        rows = sorted(zip(done.strengths, done.curve, done.band, strict=True))
        at, means = [row[0] for row in rows], [row[1] for row in rows]
        axes.plot(at, means, color=colour, marker=marker, lw=1.8, ms=4, label=name, zorder=3)
        low, high = zip(*(row[2] for row in rows), strict=True)
        axes.fill_between(at, low, high, color=colour, alpha=0.18, lw=0, zorder=2)
    for clean in dict.fromkeys(float(done.clean.double().mean()) for done in named.values()):
        axes.axhline(clean, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=1)
    axes.set_xlabel("strength")
    axes.set_ylabel(metrics.pop())
    axes.legend(
        frameon=False, fontsize=SMALL, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1)
    )
    return figure
