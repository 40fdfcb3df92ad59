"""Curves, heat maps and scatters: the only module that imports matplotlib.

Each function returns a `matplotlib.figure.Figure`, which knows no window and no global state;
`figure.savefig("curve.pdf")` writes it, and a notebook shows it by itself.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from sae_circuits.graph import Node, Scores, TensorGraph
from sae_circuits.viz.picture import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sae_circuits.evaluation import Curve

GREY = COLOURS["unknown"]
_INK = "#1f2937"
_WHOLE = {"bbox_inches": "tight", "pad_inches": 0.1}  # a file holds all that is drawn
_LETTER = 0.08  # inches that a letter of a label takes
_DIVERGING = LinearSegmentedColormap.from_list(
    "effect", [COLOURS["helps"], "#f7f7f7", COLOURS["hurts"]]
)


def plot_curve(curve: Curve) -> Figure:
    """Faithfulness against the share of edges kept, beside random circuits of the same sizes."""
    figure, axes = _axes(5.2, 3.4)
    method = curve.provenance.method or "scores"
    label = f"{method} (CPR {curve.cpr:.2f}, CMD {curve.cmd:.2f})"
    axes.axhline(1, color=GREY, lw=0.8, ls=(0, (4, 3)))
    axes.axhline(0, color=GREY, lw=0.8, ls=(0, (1, 2)))
    kept = _list(curve.faithfulness)
    axes.plot(curve.fractions, kept, color=COLOURS["helps"], lw=2, marker="o", ms=4, label=label)
    for i, row in enumerate(_rows(curve.random)):
        name = "random circuits of the same sizes" if i == 0 else None
        axes.plot(curve.fractions, row, color=GREY, lw=1.2, marker="s", ms=3, label=name, zorder=1)
    axes.set_xscale("log")
    ticks = [f for f in (0.001, 0.01, 0.1, 1.0) if f >= min(curve.fractions)]
    axes.set_xticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
    axes.set_xlabel("share of edges kept")
    axes.set_ylabel("faithfulness")
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def plot_node_scores(scores: Scores) -> Figure:
    """A heat map of node attribution: one row per layer, one column per head and one for the MLP.

    A node's attribution is the sum of its edges' scores. Neurons are in the column of their head or
    MLP. Where a dictionary splits heads, an MLP or the stream, its features have one column
    together, and so have error nodes and skip terms.
    """
    architecture = scores.graph.architecture
    columns = [*(f"h{i}" for i in range(architecture.n_heads))]
    columns += ["mlp"] if architecture.has_mlps else []
    nodes = [node for node in scores.graph.src_nodes if node.layer is not None]
    columns += sorted({_column(node) for node in nodes} - {*columns})
    grid = torch.full((architecture.n_layers, len(columns)), float("nan"))
    values = scores.by_source()
    for node in nodes:
        at = node.layer, columns.index(_column(node))
        grid[at] = grid[at].nan_to_num() + values[node]
    rows = [str(layer) for layer in range(architecture.n_layers)]
    figure = _heat_map(grid, rows, columns, f"node attribution{_unit(scores)}")
    figure.axes[0].set_ylabel("layer")
    return figure


def plot_score_groups(scores: Scores) -> Figure:
    """A heat map of the summed scores from each group of writers to each group of readers.

    The groups are the input, each layer's heads (as readers: their q, k and v apart), each MLP, the
    features of each dictionary and the logits, along the forward pass from bottom to top and from
    left to right.
    """
    graph = scores.graph
    src, dest = _groups(graph.src_nodes), _groups(graph.dest_nodes)
    src_names, dest_names = list(dict.fromkeys(src)), list(dict.fromkeys(dest))
    sums = _indicator(src).T @ scores.dense().cpu().to(torch.float64) @ _indicator(dest)
    unseen = _indicator(src).T @ _seen(graph) @ _indicator(dest) == 0
    sums[unseen] = float("nan")
    figure = _heat_map(sums, src_names, dest_names, f"summed score{_unit(scores)}")
    figure.axes[0].set(xlabel="destination", ylabel="source")
    return figure


def plot_agreement(first: Scores, second: Scores) -> Figure:
    """A scatter of two scores of the same edges, with their correlation.

    Raises:
        GraphError: the scores belong to different graphs.
    """
    first.graph.require_same(second.graph, "the second scores")
    x, y = (s.values.detach().cpu().to(torch.float64) for s in (first, second))
    pearson = float(torch.corrcoef(torch.stack([x, y]))[0, 1])
    figure, axes = _axes(4.2, 4.0)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    axes.plot([low, high], [low, high], color=GREY, lw=0.8, ls=(0, (4, 3)))
    axes.scatter(x.tolist(), y.tolist(), s=12, color=COLOURS["helps"], alpha=0.6, linewidths=0)
    axes.set_xlabel(f"{first.provenance.method or 'first'}{_unit(first)}")
    axes.set_ylabel(f"{second.provenance.method or 'second'}{_unit(second)}")
    axes.set_title(f"Pearson {pearson:.3f} over {len(x):,} edges", fontsize=9, loc="left")
    return figure


def svg_of(figure: Figure) -> str:
    """A figure as inline SVG that takes the ink of the page around it, the same at every run."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sae-circuits"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None}, **_WHOLE)
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")


def png_of(figure: Figure, dpi: int = 160) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, **_WHOLE)
    return buffer.getvalue()


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of a size in inches with one plot in the house's style."""
    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=8, which="both")
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(_INK)
        text.set_fontsize(9)
    return figure, axes


def _heat_map(
    grid: Float[Tensor, "row column"], rows: list[str], columns: list[str], title: str
) -> Figure:
    """A grid of signed values, blue below zero and orange above it, first row at the bottom."""
    beside, below = (_LETTER * max(map(len, names)) for names in (rows, columns))
    across = max(0.3 * len(columns), _LETTER * len(title))
    upright = max(map(len, columns)) > 3
    figure, axes = _axes(1.6 + across + beside, 1.1 + 0.3 * len(rows) + (below if upright else 0))
    image = axes.imshow(
        grid.numpy(force=True), cmap=_DIVERGING, norm=CenteredNorm(), origin="lower", aspect="equal"
    )
    axes.set_xticks(range(len(columns)), columns, rotation=90 if upright else 0)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=9, loc="left", color=_INK)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.outline.set_visible(False)  # type: ignore[operator]  # a Patch, typed as a spine
    bar.ax.tick_params(labelsize=7, colors=_INK)
    return figure


def _column(node: Node) -> str:
    """The column of a writer: features of one place have one together."""
    if node.kind == "neuron":
        return "mlp" if node.head is None else f"h{node.head}"
    if node.is_split:
        return f"{node.site} {'features' if node.kind == 'feature' else node.kind}"
    return "mlp" if node.kind == "mlp" else f"h{node.index}"


def _groups(nodes: tuple[Node, ...]) -> list[str]:
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


def _unit(scores: Scores) -> str:
    return f" ({scores.provenance.metric})" if scores.provenance.metric else ""


def _list(values: object) -> list[float]:
    return torch.as_tensor(values).flatten().tolist()


def _rows(values: object) -> list[list[float]]:
    """One list per random circuit, whether there is one or several."""
    table = torch.as_tensor(values)
    return [table.tolist()] if table.ndim == 1 else table.tolist()
