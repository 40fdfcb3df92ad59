"""Scores by layer and head, and by groups of writers and readers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from sae_circuits.errors import OptionError, unknown
from sae_circuits.graph import Architecture, Node, NodeScores, Scores, TensorGraph
from sae_circuits.viz.picture import BLUE, VERMILION
from sae_circuits.viz.plots.style import INK, axes_of, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTER = 0.08  # inches that a letter of a label takes
CELL = 0.34  # inches
MOST = 12  # columns, with a number in every cell
DIVERGING = LinearSegmentedColormap.from_list(
    "effect",
    [BLUE, "#f7f7f7", VERMILION],
    N=257,  # so that one of them is the middle
)
BY = {
    "source": "node attribution",
    "destination": "summed score of inputs",
    "groups": "summed score",
}


def heat_map(scores: Scores | NodeScores, *, by: str = "source") -> Figure:
    """A heat map of scores by layer and head, blue below zero and orange above it.

    One row is a layer, one column a head, or the MLP; neurons are summed in the column of theirs.
    The sum over the edges that leave a part is its node attribution. Where a dictionary splits
    heads, an MLP or the stream, its features have one column together, and so have error nodes and
    skip terms. The input and the logits belong to no layer and are shown by groups only.

    Args:
        scores: of edges, which are summed, or of nodes.
        by: "source", "destination" (a head's q, k and v together), or "groups": from each group of
            writers (rows) to each group of readers (columns), which are the input, each layer's
            heads (as readers q, k and v apart), each MLP, the features of each dictionary and the
            logits, along the forward pass.

    Raises:
        UnknownName: another `by`.
        OptionError: scores of nodes, which are by source, in another way.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task, graph = sc.tasks.ioi(model, n=8, seed=0), sc.TensorGraph.from_model(model)
        >>> figure = sc.viz.heat_map(sc.attribute(model, graph, task, method="eap"))
        >>> figure.axes[0].images[0].get_array().shape  # four layers of four heads and an MLP
        (4, 5)
    """
    if by not in BY:
        raise unknown("way to sum scores", by, BY)
    if isinstance(scores, NodeScores):
        if by != "source":
            raise OptionError(f"by={by!r}: scores of nodes are by source; give scores of edges")
        values = dict(zip(scores.graph.src_nodes, scores.values.tolist(), strict=True))
        return _by_layer(scores.graph.architecture, values, f"{BY['source']}{unit_of(scores)}")
    if by == "groups":
        return _by_group(scores)
    values = scores.by_source() if by == "source" else scores.by_destination()
    return _by_layer(scores.graph.architecture, values, f"{BY[by]}{unit_of(scores)}")


def _by_layer(architecture: Architecture, values: dict[Node, float], title: str) -> Figure:
    """One row per layer, one column per head and for the MLP, and for what dictionaries split."""
    nodes = [node for node in values if node.layer is not None]
    columns = [*(f"h{i}" for i in range(architecture.n_heads))]
    columns += sorted({_column(node) for node in nodes if node.kind == "kv"})
    columns += ["mlp"] if architecture.has_mlps else []
    columns += sorted({_column(node) for node in nodes if node.is_split} - {*columns})
    grid = torch.full((architecture.n_layers, len(columns)), float("nan"), dtype=torch.float64)
    for node in nodes:
        at = node.layer, columns.index(_column(node))
        grid[at] = grid[at].nan_to_num() + values[node]
    rows = [str(layer) for layer in range(architecture.n_layers)]
    figure = grid_map(grid, rows, columns, title)
    figure.axes[0].set_ylabel("layer")
    return figure


def _column(node: Node) -> str:
    """The column of a node: features of one place have one together."""
    if node.kind == "neuron":
        return "mlp" if node.head is None else f"h{node.head}"
    if node.is_split:
        return f"{node.site} {'features' if node.kind == 'feature' else node.kind}"
    return {"mlp": "mlp", "kv": f"kv{node.index}"}.get(node.kind, f"h{node.index}")


def _by_group(scores: Scores) -> Figure:
    """One row per group of writers, one column per group of readers."""
    graph = scores.graph
    src, dest = _groups(graph.src_nodes), _groups(graph.dest_nodes)
    src_names, dest_names = list(dict.fromkeys(src)), list(dict.fromkeys(dest))
    sums = _indicator(src).T @ scores.dense().cpu().to(torch.float64) @ _indicator(dest)
    sums[_indicator(src).T @ _seen(graph) @ _indicator(dest) == 0] = float("nan")
    figure = grid_map(sums, src_names, dest_names, f"{BY['groups']}{unit_of(scores)}")
    figure.axes[0].set(xlabel="destination", ylabel="source")
    return figure


def _groups(nodes: Iterable[Node]) -> list[str]:
    """The name of each node's group: its name without the head's or the feature's number."""

    def group(node: Node) -> str:
        if node.kind in ("head", "kv"):
            return f"a{node.layer}{f'<{node.port}>' if node.port else ''}"
        if node.head is not None:
            return f"a{node.layer}.h{node.head} neurons"
        many = node.kind in ("feature", "neuron")
        return f"{node.site}{node.layer} {node.kind}s" if many else node.name

    return [group(node) for node in nodes]


def _indicator(groups: list[str]) -> Float[Tensor, "node group"]:
    names = list(dict.fromkeys(groups))
    return torch.tensor([[float(group == name) for name in names] for group in groups]).double()


def _seen(graph: TensorGraph) -> Float[Tensor, "src dest"]:
    return graph.dense(torch.ones(graph.n_edges, dtype=torch.float64))


def grid_map(
    grid: Float[Tensor, "row column"], rows: list[str], columns: list[str], title: str
) -> Figure:
    """A grid of signed values, first row at the bottom, with a bar that says what a colour is."""
    beside, below = (LETTER * max(map(len, names)) for names in (rows, columns))
    across = max(CELL * len(columns), LETTER * len(title))
    upright = max(map(len, columns)) > 3
    height = 1.1 + CELL * len(rows) + (below if upright else 0)
    figure, axes = axes_of(1.6 + across + beside, height)
    values = grid.numpy(force=True)
    norm = CenteredNorm()
    image = axes.imshow(values, cmap=DIVERGING, norm=norm, origin="lower", aspect="equal")
    axes.set_xticks(range(len(columns)), columns, rotation=90 if upright else 0)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    if len(columns) <= MOST:
        _add_numbers(axes, grid)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.outline.set_visible(False)  # type: ignore[operator]  # a Patch, typed as a spine
    bar.ax.tick_params(labelsize=7, colors=INK)
    return figure


def _add_numbers(axes: Axes, grid: Float[Tensor, "row column"]) -> None:
    """Write each value into its cell, with as many places as the largest has for two digits."""
    largest = float(grid.nan_to_num().abs().max())
    if not 0.01 <= largest < 100:
        return
    places = max(0, 1 - math.floor(math.log10(largest)))
    for row, column in (~grid.isnan()).nonzero().tolist():
        value = float(grid[row, column])
        text = f"{value:.{places}f}"
        text = "0" if not float(text) else text.replace("0.", ".", abs(value) < 1).replace("-", "−")
        shade = "white" if abs(value) > 0.7 * largest else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=shade)
