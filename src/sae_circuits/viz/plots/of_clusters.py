"""Clusters against clusters: what passes between them, or how alike they are."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from sae_circuits.errors import OptionError
from sae_circuits.graph import Clusters
from sae_circuits.viz.plots.heat_maps import grid_map

WIDEST = 28  # letters of what a cluster is called


def clusters(found: Clusters, *, n: int = 20) -> Figure:
    """A heat map of the weights among clusters, blue below zero and orange above it.

    A cell is the sum of the scores from the row's features to the column's. Without scores it is,
    of the likeness of the row's features to their neighbours, the share that is to the column's.
    Rows and columns are the largest clusters, what is in no cluster, and, of weights, what is
    elsewhere, as far as anything passes there. A row says how many features the cluster has, how
    stable it is, and what they have in common.

    Args:
        n: how many clusters at most.

    Raises:
        OptionError: no cluster; `n` below 1.

    Example:
        >>> import sae_circuits as sc
        >>> found = sc.cluster(sc.load_saes("demo", ["resid_post.1"])[0], "decoder", repeats=0)
        >>> sc.viz.clusters(found, n=3).axes[0].get_title(loc="left")
        'share of likeness to neighbours'
    """
    if n < 1:
        raise OptionError(f"n is {n}: show at least 1 cluster")
    if not len(found):
        raise OptionError("there is no cluster to draw: ask for smaller ones, by min_size")
    table = found.neighbours
    if found.weights is not None and found.sizes is not None:
        table = found.weights.where(found.sizes > 0, torch.nan)  # nothing is drawn there
    shown = min(n, len(found))
    kept = [*range(shown), *range(len(found), len(table))]
    grid = table[kept][:, kept]
    filled = grid.nan_to_num() != 0
    reads, writes = filled.any(1), filled.any(0)
    reads[:shown] = writes[:shown] = True
    rows = [_said(found, i) for i, there in zip(kept, reads.tolist(), strict=True) if there]
    columns = [found.ends[i] for i, there in zip(kept, writes.tolist(), strict=True) if there]
    title = "share of likeness to neighbours" if found.weights is None else "summed score"
    from_below = torch.flip(grid[reads][:, writes], (0,))
    drawn = grid_map(from_below, rows[::-1], columns, title)
    if found.weights is None:
        drawn.axes[-1].set_ylim(bottom=0)  # the legend: no share is below that
    return drawn


def _said(found: Clusters, i: int) -> str:
    """What stands beside a row."""
    if i >= len(found):
        return found.ends[i]
    stable = float(found.stability[i])
    parts = [f"c{i}: {int((found.member_of == i).sum()):,}"]
    parts += [f"stability {stable:.2f}"] if stable == stable else []
    text = found.common[i]
    parts += [text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"] if text else []
    return ", ".join(parts)
