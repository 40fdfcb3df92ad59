"""Pictures that compare methods: what they draw, by its numbers, colours and labels."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.text import Text

from sae_circuits.errors import GraphError, OptionError, UnknownName
from sae_circuits.graph import Circuit, NodeScores, Provenance, Scores
from sae_circuits.viz import curves, heat_map, scatter, side_by_side
from sae_circuits.viz.picture import BLUE, GREY, VERMILION
from sae_circuits.viz.plots.scatters import LINE, _apart
from sae_circuits.viz.plots.style import INK
from small_circuits import by_hand, graph_of, random_circuit, small_curve


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend(of) -> list[str]:
    return [text.get_text() for text in of.get_texts()]


def is_inside(figure) -> bool:
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    wide = 0 <= box.x0 < box.x1 <= figure.get_figwidth()
    return wide and 0 <= box.y0 < box.y1 <= figure.get_figheight()


# -- curves ----------------------------------------------------------------------------------------


def curve(values=(0.5, 2.5, 3.0), method="eap", random=((0.5, 0.75, 3.0), (0.5, 0.5, 3.0)), **new):
    made = Provenance(method=method, metric="logit_diff")
    return replace(small_curve(), values=values, provenance=made, random_values=random, **new)


def lines(axes) -> dict[str, list[float]]:
    """The data lines by their labels; reference lines are horizontal and have two points."""
    return {
        line.get_label(): [round(float(y), 6) for y in line.get_ydata()]
        for line in axes.lines
        if len(line.get_xdata()) == 3
    }


def test_methods_stand_beside_each_other_with_colours_and_markers_of_their_own() -> None:
    axes = curves([curve(), curve((0.5, 1.75, 3.0), "exact"), curve(method="relp")]).axes[0]
    # By hand: 0.09 * 0.8 / 2 + 0.9 * 1.8 / 2 = 0.846, and 0.09 * 0.5 / 2 + 0.9 * 1.5 / 2 = 0.6975
    assert lines(axes) == {
        "eap (CPR 0.85, CMD 0.14)": [0.0, 0.8, 1.0],
        "exact (CPR 0.70, CMD 0.29)": [0.0, 0.5, 1.0],
        "relp (CPR 0.85, CMD 0.14)": [0.0, 0.8, 1.0],
        "random circuits of the same sizes: mean and range of 2": [0.0, 0.05, 1.0],
    }
    data = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [line.get_color() for line in data] == [BLUE, VERMILION, "#009E73", GREY]
    assert len({line.get_marker() for line in data}) == 4
    assert legend(axes.get_legend()) == list(lines(axes))


def test_the_areas_in_the_legend_are_the_curves_own() -> None:
    one = curve()
    (label, *_) = lines(curves(one).axes[0])
    assert label == f"eap (CPR {one.cpr:.2f}, CMD {one.cmd:.2f})"


def test_curves_of_one_method_are_a_mean_and_a_band_over_their_range() -> None:
    halves = [curve((0.5, 1.5, 3.0)), curve((0.5, 2.5, 3.0))]
    for given in (halves, {"eap": halves}):
        axes = curves(given).axes[0]
        assert next(iter(lines(axes).values())) == [0.0, 0.6, 1.0]
        assert next(iter(lines(axes))).endswith("): mean and range of 2")
        band = axes.collections[0].get_paths()[0].vertices
        assert {(0.1, 0.4), (0.1, 0.8)} <= {(round(x, 6), round(y, 6)) for x, y in band}
        assert to_hex(axes.collections[0].get_facecolor()[0]) == BLUE.lower()


def test_random_circuits_of_all_curves_are_pooled_and_shared_draws_count_once() -> None:
    shared = curve(random=((0.5, 0.75, 3.0),))
    other = curve(method="exact", random=((0.5, 0.75, 3.0), (0.5, 1.25, 3.0)))
    found = lines(curves([shared, other]).axes[0])
    assert found["random circuits of the same sizes: mean and range of 2"] == [0.0, 0.2, 1.0]
    assert len(lines(curves(curve(random=())).axes[0])) == 1


def test_names_are_given_or_those_of_methods() -> None:
    given = {"on names": curve(), "on places": [curve((0.5, 1.0, 3.0))]}
    assert [label.partition(" (")[0] for label in lines(curves(given).axes[0])][:2] == list(given)
    many = {f"method {i}": curve() for i in range(9)}
    drawn = [line for line in curves(many).axes[0].lines if line.get_label()[:6] == "method"]
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in drawn}
    assert len(looks) == 9
    assert is_inside(curves(many))


def test_curves_that_cannot_be_drawn_together_are_refused() -> None:
    other = replace(curve(), fractions=(0.02, 0.1, 1.0))
    with pytest.raises(OptionError, match="the 2 curves of 'eap' are at different sizes"):
        curves([curve(), other])
    assert len(lines(curves({"one": curve(), "other": other}).axes[0])) == 4
    for nothing in ([], {}, {"eap": []}):
        with pytest.raises(OptionError, match="no curve to draw"):
            curves(nothing)


# -- heat map --------------------------------------------------------------------------------------


def counting(n_kv_heads: int | None = None, n_heads: int = 2) -> Scores:
    graph = graph_of(2, n_heads, n_kv_heads)
    values = torch.arange(float(graph.n_edges)) - 20
    return Scores(graph, values, Provenance(method="eap", metric="logit_diff"))


def test_sums_over_the_edges_that_enter_a_part() -> None:
    scores = counting()
    axes = heat_map(scores, by="destination").axes[0]
    grid = axes.images[0].get_array()
    into = {node.name: value for node, value in scores.by_destination().items()}
    assert grid[1, 1] == sum(into[f"a1.h1<{port}>"] for port in "qkv")
    assert grid[0, 2] == into["m0"]
    assert axes.get_title("left") == "summed score of inputs (logit_diff)"
    shared = heat_map(counting(2, 4), by="destination").axes[0]
    assert [t.get_text() for t in shared.get_xticklabels()][4:] == ["kv0", "kv1", "mlp"]


def test_scores_of_nodes_are_shown_as_they_are() -> None:
    graph = graph_of(2, 2)
    nodes = NodeScores(graph, torch.arange(float(graph.n_src)))
    grid = heat_map(nodes).axes[0].images[0].get_array()
    assert [grid[0, 0], grid[0, 2], grid[1, 1]] == [nodes["a0.h0"], nodes["m0"], nodes["a1.h1"]]
    with pytest.raises(OptionError, match="by='groups': scores of nodes are by source"):
        heat_map(nodes, by="groups")
    with pytest.raises(UnknownName, match="unknown way to sum scores 'sources': did you mean"):
        heat_map(counting(), by="sources")


def test_colours_are_centred_at_zero_and_blue_below_it() -> None:
    graph = graph_of(1, 2)
    values = {"a0.h0->logits": -2.0, "a0.h1->logits": 0.5, "m0->logits": 0.004}
    scores = Scores(graph, torch.zeros(graph.n_edges))
    for edge, value in values.items():
        scores.values[graph.edge_id(edge)] = value
    axes = heat_map(scores).axes[0]
    image = axes.images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-2.0, 2.0)
    assert to_hex(image.cmap(image.norm(-2.0))) == BLUE.lower()
    assert to_hex(image.cmap(image.norm(2.0))) == VERMILION.lower()
    assert to_hex(image.cmap(image.norm(0.0))) == "#f7f7f7"
    assert texts(axes) == ["−2.0", ".5", "0"]
    assert axes.texts[0].get_color() == "white"
    assert texts(heat_map(1e-5 * scores).axes[0]) == []  # the bar says it


# -- scatter ---------------------------------------------------------------------------------------


def pair(n_off: int = 2) -> tuple[Scores, Scores]:
    graph = graph_of(2, 2)
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(graph.n_edges, generator=generator, dtype=torch.float64)
    off = exact.clone()
    off[[5, 30]] += torch.tensor([4.0, -3.0], dtype=torch.float64)
    made = Provenance(metric="logit_diff")
    return (
        Scores(graph, off, replace(made, method="eap")),
        Scores(graph, exact, replace(made, method="exact")),
    )


def test_the_scatter_draws_every_edge_and_names_those_that_are_furthest_off() -> None:
    scores, exact = pair()
    axes = scatter(scores, exact, n_named=2).axes[0]
    rest, worst = (dots.get_offsets().tolist() for dots in axes.collections)
    points = list(zip(exact.values.tolist(), scores.values.tolist(), strict=True))
    assert torch.allclose(torch.tensor(sorted(rest + worst)), torch.tensor(sorted(points)).float())
    assert sorted(map(tuple, worst)) == sorted([points[5], points[30]])
    names = {scores.graph.edges[i].name: points[i] for i in (5, 30)}
    assert {text.get_text(): text.xy for text in axes.texts} == names
    assert to_hex(axes.collections[1].get_facecolor()[0]) == VERMILION.lower()
    assert axes.get_xlabel() == "exact (logit_diff)"
    assert axes.get_ylabel() == "eap (logit_diff)"
    ends = axes.lines[0].get_xydata()
    assert ends[:, 0].tolist() == ends[:, 1].tolist()  # the identity


def test_its_title_has_both_correlations() -> None:
    scipy = pytest.importorskip("scipy.stats")
    scores, exact = pair()
    x, y = exact.values.numpy(), scores.values.numpy()
    want = f"Pearson {scipy.pearsonr(x, y).statistic:.3f}, "
    want += f"Spearman {scipy.spearmanr(x, y).statistic:.3f} over 46 edges"
    assert scatter(scores, exact).axes[0].get_title("left") == want
    opposite = scatter(-2 * exact, exact).axes[0].get_title("left")
    assert opposite == "Pearson -1.000, Spearman -1.000 over 46 edges"
    assert "Pearson –, Spearman –" in scatter(0 * exact, exact).axes[0].get_title("left")


def test_names_do_not_overlap_and_stand_in_the_order_of_their_points() -> None:
    scores, exact = pair()
    figure = scatter(scores, exact, n_named=12)
    assert len(figure.axes[0].texts) == 2  # all other edges are exact: there is nothing to name
    noisy = replace(scores, values=scores.values + 0.1 * torch.randn(46, dtype=torch.float64))
    figure = scatter(noisy, exact, n_named=12)
    assert is_inside(figure)
    labels = figure.axes[0].texts
    boxes = [Text.get_window_extent(text) for text in labels]  # without the line to the point
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    heights = [text.xy[1] for text in labels]
    assert heights == sorted(heights)
    assert [box.y0 for box in boxes] == sorted(box.y0 for box in boxes)


def test_lines_of_text_keep_their_distance_within_the_plot() -> None:
    for wished in ([0.5] * 5, [0.0] * 8, [1.0] * 8, [0.1, 0.12, 0.9, 0.91], [0.5] * 30):
        found = _apart(wished)
        step = min(LINE, 1 / len(wished))
        assert all(b - a > step - 1e-9 for a, b in pairwise(found))
        assert -1e-9 <= found[0] <= found[-1] <= 1 + 1e-9
    assert _apart([0.2, 0.5, 0.8]) == pytest.approx([0.2, 0.5, 0.8])


def test_scores_that_cannot_be_compared_are_refused() -> None:
    scores, exact = pair()
    with pytest.raises(GraphError, match="the first scores belongs to another graph"):
        scatter(Scores(graph_of(1, 1), torch.zeros(8)), exact)
    with pytest.raises(OptionError, match="n_named=-1"):
        scatter(scores, exact, n_named=-1)
    assert texts(scatter(scores, exact, n_named=0).axes[0]) == []


# -- side by side ----------------------------------------------------------------------------------


def two() -> tuple[Circuit, Circuit]:
    """Circuits that share three edges, of scores of other methods and units."""
    left = by_hand()
    assert left.scores is not None
    made = Provenance(method="exact", task="ioi", metric="kl")
    scores = Scores(left.graph, 10 * left.scores.values.flip(0), made)
    edges = ["input->a0.h1<v>", "a0.h1->a1.h0<k>", "a1.h0->logits", "a0.h0->logits"]
    return left, Circuit.from_edges(left.graph, edges, scores)


def drawn(axes) -> dict[str, str]:
    """The colours of the edges in a panel, by their names."""
    return {
        patch.get_gid(): to_hex(patch.get_edgecolor()) for patch in axes.patches if patch.get_gid()
    }


def test_each_panel_has_its_circuits_edges_in_three_colours() -> None:
    left, right = two()
    figure = side_by_side(left, right)
    common = {edge.name for edge in (left & right).edges}
    assert len(common) == 3
    for axes, circuit, own in zip(figure.axes, (left, right), (BLUE, VERMILION), strict=True):
        assert drawn(axes) == {
            edge.name: (INK if edge.name in common else own).lower() for edge in circuit.edges
        }
    assert [axes.get_title("left") for axes in figure.axes] == ["eap-ig: 5 edges", "exact: 4 edges"]
    assert legend(figure.legends[0]) == [
        "in both (3)", "in eap-ig alone (2)", "in exact alone (1)", "into k", "into v"
    ]  # fmt: skip


def test_every_part_stands_in_the_same_place_and_is_faint_where_it_is_missing() -> None:
    figure = side_by_side(*two())
    places, colours = [], []
    for axes in figure.axes:
        names = [text for text in axes.texts if text.get_gid()]
        places.append({text.get_text(): text.get_position() for text in names})
        colours.append({text.get_text(): text.get_color() for text in names})
    assert places[0] == places[1]
    assert set(places[0]) == {"input", "a0.h0", "a0.h1", "m0", "a1.h0", "logits"}
    assert [name for name, colour in colours[0].items() if colour != INK] == ["a0.h0"]
    assert [name for name, colour in colours[1].items() if colour != INK] == ["m0"]


def test_widths_are_by_the_size_of_each_circuits_own_scores() -> None:
    left, right = two()
    figure = side_by_side(left, right)
    for axes, circuit in zip(figure.axes, (left, right), strict=True):
        width = {p.get_gid(): p.get_linewidth() for p in axes.patches if p.get_gid()}
        by_size = sorted(width, key=lambda name: abs(circuit.scores[name]))  # type: ignore[index]
        assert [width[name] for name in by_size] == sorted(width.values())
    thickest = [max(p.get_linewidth() for p in axes.patches if p.get_gid()) for axes in figure.axes]
    assert thickest[0] == thickest[1]


def test_circuits_without_scores_and_names_of_ones_own() -> None:
    left, right = (replace(circuit, scores=None) for circuit in two())
    figure = side_by_side(left, right, names=("mine", "theirs"))
    assert [axes.get_title("left") for axes in figure.axes] == ["mine: 5 edges", "theirs: 4 edges"]
    widths = {p.get_linewidth() for axes in figure.axes for p in axes.patches if p.get_gid()}
    assert len(widths) == 1
    unnamed = side_by_side(left, right)
    assert legend(unnamed.legends[0])[1:3] == ["in left alone (2)", "in right alone (1)"]


def test_of_too_many_edges_the_strongest_are_drawn_and_the_title_says_so() -> None:
    large = random_circuit(2, 2, 40)
    small = Circuit.from_edges(large.graph, ["input->m0"])
    figure = side_by_side(large, small, max_edges=10)
    assert large.scores is not None
    best = {name for name, _ in large.scores.top(10)}
    assert best <= set(drawn(figure.axes[0])) <= best | {"input->m0"}
    assert figure.axes[0].get_title("left") == "left: 40 edges, the 10 strongest drawn"


def test_shared_heads_and_empty_circuits_can_be_drawn() -> None:
    graph = graph_of(1, 4, 2)
    edges = ["input->a0.kv0<k>", "input->a0.h1<q>", "a0.h1->logits", "a0.h2->logits"]
    figure = side_by_side(Circuit.from_edges(graph, edges), Circuit.empty(graph))
    assert set(drawn(figure.axes[0])) == set(edges)
    assert drawn(figure.axes[1]) == {}
    assert is_inside(figure)
    assert is_inside(side_by_side(Circuit.empty(graph), Circuit.empty(graph)))


def test_circuits_of_other_graphs_are_refused() -> None:
    with pytest.raises(GraphError, match="the second circuit belongs to another graph"):
        side_by_side(by_hand(), random_circuit(1, 2, 3))
