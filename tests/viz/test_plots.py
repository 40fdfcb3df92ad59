from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sae_circuits.graph import Provenance, Scores
from sae_circuits.viz import curves, heat_map
from sae_circuits.viz.plots import png_of, svg_of
from small_circuits import by_hand, graph_of

CURVE = SimpleNamespace(
    fractions=(0.01, 0.1, 1.0),
    faithfulness=(0.2, 0.9, 1.0),
    random=((0.0, 0.1, 1.0), (0.0, 0.05, 1.0)),
    degrees=((0.0, 0.25, 1.0),),
    band=((0.1, 0.3), (0.8, 0.95), (1.0, 1.0)),
    cpr=0.876,
    cmd=0.124,
    provenance=Provenance(method="eap"),
)


def test_a_plot_shows_itself_in_a_notebook_that_has_not_imported_pyplot() -> None:
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(curves(CURVE))
    assert shown["image/png"].startswith(b"\x89PNG")


def counting(n_layers: int = 2) -> Scores:
    graph = graph_of(n_layers, 2)
    return Scores(graph, torch.arange(float(graph.n_edges)), Provenance(metric="logit_diff"))


def test_the_curve_draws_its_numbers_beside_the_random_ones() -> None:
    axes = curves(CURVE).axes[0]
    drawn = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 3]
    assert [list(map(float, y)) for y in drawn] == [
        pytest.approx([0.2, 0.9, 1.0]),
        pytest.approx([0.0, 0.075, 1.0]),
        pytest.approx([0.0, 0.25, 1.0]),
    ]
    assert [corners(band) for band in axes.collections] == [
        {(0.01, 0.1), (0.01, 0.3), (0.1, 0.8), (0.1, 0.95), (1.0, 1.0)},
        {(0.01, 0.0), (0.1, 0.05), (0.1, 0.1), (1.0, 1.0)},
    ]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [
        "eap (CPR 0.88, CMD 0.12)",
        "random circuits of the same sizes: mean and range of 2",
        "random circuits of the same degrees",
    ]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1%", "10%", "100%"]


def corners(band) -> set[tuple[float, float]]:
    return {(round(float(x), 6), round(float(y), 6)) for x, y in band.get_paths()[0].vertices}


def test_the_node_map_shows_node_attributions() -> None:
    scores = counting()
    grid = heat_map(scores).axes[0].images[0].get_array()
    by_name = {node.name: value for node, value in scores.by_source().items()}
    assert grid.shape == (2, 3)
    assert grid[1, 0] == by_name["a1.h0"]
    assert grid[0, 2] == by_name["m0"]


def test_the_group_map_sums_edges_and_leaves_out_what_is_unseen() -> None:
    scores = counting()
    axes = heat_map(scores, by="groups").axes[0]
    grid = np.ma.filled(axes.images[0].get_array(), np.nan)
    src = [tick.get_text() for tick in axes.get_yticklabels()]
    dest = [tick.get_text() for tick in axes.get_xticklabels()]
    assert src == ["input", "a0", "m0", "a1", "m1"]
    assert dest[:4] == ["a0<q>", "a0<k>", "a0<v>", "m0"]
    edges = [f"a0.h{i}->a1.h{j}<k>" for i in range(2) for j in range(2)]
    assert grid[src.index("a0"), dest.index("a1<k>")] == sum(scores[edge] for edge in edges)
    assert np.isnan(grid[src.index("m1"), dest.index("m0")])
    assert np.nansum(grid) == float(scores.values.sum())


def test_inline_svg_is_reproducible_and_takes_the_ink_of_its_page() -> None:
    svg = svg_of(curves(CURVE))
    assert svg == svg_of(curves(CURVE))
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert png_of(curves(CURVE)).startswith(b"\x89PNG")


def test_importing_pictures_loads_no_plotting() -> None:
    code = (
        "import sys, sae_circuits.viz; "
        "sys.exit(bool({'matplotlib', 'graphviz', 'jinja2'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_plot_is_an_attribute_error() -> None:
    import sae_circuits.viz

    with pytest.raises(AttributeError, match="no_plot"):
        _ = sae_circuits.viz.no_plot
    assert by_hand()  # the module still works


def scores_of_features() -> Scores:
    from sae_circuits.graph import TensorGraph
    from shapes import HOOKED
    from small_dictionaries import dictionary

    model = HOOKED["gpt2"]()
    graph = TensorGraph.from_model(model, saes=[dictionary(model, "mlp_in", 1, writes="mlp_out")])
    return Scores(graph, torch.randn(graph.n_edges), Provenance(metric="logit_diff"))


def test_labels_stand_inside_of_the_figure() -> None:
    long = SimpleNamespace(**vars(CURVE))
    long.provenance = Provenance(method="eap-ig-activations")
    scores = scores_of_features()
    figures = [curves(long), heat_map(counting())]
    figures += [heat_map(scores), heat_map(scores, by="groups")]
    for figure in figures:
        figure.draw_without_rendering()
        drawn = figure.get_tightbbox()
        assert 0 <= drawn.x0 < drawn.x1 <= figure.get_figwidth()
        assert 0 <= drawn.y0 < drawn.y1 <= figure.get_figheight()


def test_features_of_one_place_share_a_column_and_a_group() -> None:
    scores = scores_of_features()
    axes = heat_map(scores).axes[0]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns[-3:] == ["mlp", "m error", "m features"]
    grid = torch.as_tensor(axes.images[0].get_array().filled(float("nan")))
    of = scores.by_source()
    features = sum(value for node, value in of.items() if node.kind == "feature")
    assert float(grid[1, -1]) == pytest.approx(features, rel=1e-5, abs=1e-6)
    assert grid[0, -1].isnan()
    groups = [t.get_text() for t in heat_map(scores, by="groups").axes[0].get_xticklabels()]
    assert groups[-3:] == ["m1 features", "m1.error", "logits"]
