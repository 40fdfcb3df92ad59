from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from sae_circuits.graph import AttributionGraph
from sae_circuits.viz import Picture, circuit_html, graph_picture, render
from sae_circuits.viz.dot import dot_text, has_dot
from sae_circuits.viz.grid import place_in_columns
from sae_circuits.viz.layout import Layout
from small_graphs import EDGES, random_traced, traced

LABELS = {"m1.f17": "a name is due", "m0.f3@0": "names"}
EVIL = '</script><img src=x onerror="document.title=1">'


def placed(graph: AttributionGraph) -> tuple[Picture, Layout]:
    picture = graph_picture(graph)
    return picture, place_in_columns(picture)


# -- what is drawn -------------------------------------------------------------------------------


def test_nodes_stand_by_layer_and_position() -> None:
    picture = graph_picture(traced(), labels=LABELS)
    where = {node.name: (node.row, node.pos) for node in picture.nodes}
    assert where == {
        "input@0": (0, 0), "input@1": (0, 1), "input@2": (0, 2),
        "m0.f3@0": (1, 0), "m0.error@1": (1, 1), "m0.f7@2": (1, 2),
        "m1.f17@2": (2, 2), "m1.error@2": (2, 2),
        "logits.t5@2": (3, 2), "logits.t9@2": (3, 2),
    }  # fmt: skip
    assert picture.columns == ((0, "Mary"), (1, "and"), (2, "John"))
    assert picture.row_names == {1: "layer 0", 2: "layer 1"}
    assert picture.within == ()


def test_nodes_say_in_short_what_row_and_column_do_not() -> None:
    nodes = {node.name: node for node in graph_picture(traced(), labels=LABELS).nodes}
    assert [node.text for node in nodes.values()] == [
        "Mary", "and", "John", "f3", "error", "f7", "f17", "error", "gave", "said",
    ]  # fmt: skip
    assert (nodes["logits.t5@2"].text, nodes["logits.t5@2"].label) == ("gave", "75.0%")
    assert nodes["m1.f17@2"].label == "a name is due"
    assert nodes["m1.f17@2"].strength == 1.0
    assert nodes["m0.f7@2"].strength == 0.25
    assert nodes["m0.error@1"].strength is None
    assert nodes["m1.f17@2"].note == "at ' John', activation 3, influence 1"
    assert nodes["logits.t5@2"].note == "token ' gave', probability 0.75, influence 0.75"


def test_edges_have_the_weights_sign_and_size() -> None:
    edges = {edge.name: edge for edge in graph_picture(traced()).edges}
    assert {name: edge.score for name, edge in edges.items()} == EDGES
    assert edges["m0.f3@0->m1.f17@2"].effect == "excites"
    assert edges["m0.f7@2->m1.f17@2"].effect == "inhibits"
    assert edges["m1.f17@2->logits.t5@2"].width == 5.0
    assert edges["input@0->m0.f3@0"].width == 2.8


def test_nodes_stand_in_the_order_of_the_graph_and_lines_fade_with_their_weight() -> None:
    """Logits come by probability, not by number."""
    graph = traced()
    swapped = replace(graph, nodes=(*graph.nodes[:8], graph.nodes[9], graph.nodes[8]))
    names = [node.name for node in graph_picture(swapped).nodes]
    assert names[-2:] == ["logits.t9@2", "logits.t5@2"]
    opacity = {edge.score: edge.opacity for edge in graph_picture(graph).edges}
    assert opacity[4.0] == 0.8
    assert opacity[1.0] == pytest.approx(0.12 + 0.68 * 0.5)


def test_the_title_says_model_prompt_and_numbers() -> None:
    assert graph_picture(traced()).title == "toy · “Mary and John” · 10 of 40 nodes, 9 edges"
    few = graph_picture(traced(), max_edges=4)
    assert few.title.endswith("9 edges, the 4 strongest drawn")
    assert {edge.name for edge in few.edges} == {
        "m1.f17@2->logits.t5@2", "input@0->m0.f3@0", "m0.f3@0->m1.f17@2", "input@2->m0.f7@2",
    }  # fmt: skip
    assert len(few.nodes) == 10  # nodes stay


def test_tokens_that_are_not_known_are_shown_by_their_number() -> None:
    nodes = {n.name: n for n in graph_picture(replace(traced(), predicted=())).nodes}
    assert nodes["logits.t9@2"].text == "logits.t9"
    known = replace(traced(), predicted=(), tokens=(9, 8, 4))
    assert {n.name: n for n in graph_picture(known).nodes}["logits.t9@2"].text == "Mary"


def test_groups_are_drawn_in_their_place() -> None:
    picture = graph_picture(traced(), groups={"names": ["m0.f3", "m0.f7"]})
    edges = {edge.name: edge.score for edge in picture.edges}
    assert edges["names->m1.f17@2"] == 1.0
    assert edges["input@0->names"] == 2.0
    assert next(n for n in picture.nodes if n.name == "names").pos == 0


def test_a_graph_without_edges_is_drawn(tmp_path: Path) -> None:
    none = traced().weight[:0]
    bare = replace(traced(), weight=none, src=none.long(), dest=none.long())
    assert len(graph_picture(bare).nodes) == 10
    for suffix in ("html", "dot"):
        assert "f17" in bare.render(tmp_path / f"graph.{suffix}").read_text(encoding="utf-8")


# -- where it stands -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_features", [0, 5, 60, 300])
def test_boxes_stay_in_their_columns_and_apart(n_features: int) -> None:
    picture, layout = placed(random_traced(6, 7, n_features))
    corners = {}
    for node in picture.nodes:
        (x, y), box = layout.nodes[node.name], layout.boxes[node.name]
        left, right = layout.columns[node.pos]
        assert left <= x - box.width / 2
        assert x + box.width / 2 <= right
        assert box.height / 2 <= y <= layout.height - box.height / 2
        corners[node.name] = (x - box.width / 2, y - box.height / 2, box.width, box.height)
    for (x, y, w, h), (u, v, s, t) in combinations(corners.values(), 2):
        assert x + w < u + 1e-6 or u + s < x + 1e-6 or y + h < v + 1e-6 or v + t < y + 1e-6
    assert max(right for _, right in layout.columns.values()) <= layout.width


def test_rows_grow_upwards_and_columns_to_the_right() -> None:
    picture, layout = placed(random_traced(5, 4, 40))
    ys = [layout.row_y(row) for row in range(picture.n_rows)]
    assert ys == sorted(ys, reverse=True)
    lefts = [layout.columns[pos][0] for pos, _ in picture.columns]
    assert lefts == sorted(lefts)
    by_row = {node.name: node.row for node in picture.nodes}
    for edge in picture.edges:
        start, end = layout.paths[edge.name]
        assert by_row[edge.src] < by_row[edge.dest]
        assert start[1] > end[1]


def test_lines_leave_and_enter_nodes_side_by_side() -> None:
    _, layout = placed(traced())
    into = sorted(path[-1] for name, path in layout.paths.items() if name.endswith("->m1.f17@2"))
    (x, y), box = layout.nodes["m1.f17@2"], layout.boxes["m1.f17@2"]
    assert [end[1] for end in into] == [y + box.height / 2] * 3
    assert [end[0] for end in into] == pytest.approx(
        [x - 0.2 * box.width, x, x + 0.2 * box.width], abs=0.06
    )
    control = layout.control("input@2->m0.f7@2")
    assert control[0] == layout.paths["input@2->m0.f7@2"][0]
    assert control[-1] == layout.paths["input@2->m0.f7@2"][-1]


# -- files ---------------------------------------------------------------------------------------


def test_a_graph_renders_itself(tmp_path: Path) -> None:
    text = traced().render(tmp_path / "graph.dot", title="mine").read_text()
    assert text == dot_text(graph_picture(traced(), title="mine"))
    assert text.count("->") == 2 * 9 + 3  # each edge as such and in its tooltip; three columns
    assert '"m1.f17@2" [label=' in text
    assert "positive weight: the source raises its destination" in text
    assert traced()._repr_html_() == circuit_html(traced())


@pytest.mark.skipif(not has_dot(), reason="no dot on this machine")
def test_the_svg_shows_tokens_features_and_edges(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    svg = traced().render(tmp_path / "graph.svg", labels=LABELS).read_text(encoding="utf-8")
    for text in ("Mary", "f17", "a name is due", "gave", "75.0%", "layer 1", "error"):
        assert f">{text}</text>" in svg
    assert svg.count('class="edge"') == 9 + 3
    assert render(random_traced(6, 7, 60), tmp_path / "big.png").read_bytes()[:4] == b"\x89PNG"
    assert capfd.readouterr().err == ""


def test_the_page_is_the_drawing_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    graph = random_traced(4, 5, 60)
    html = render(graph, tmp_path / "graph.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert not re.findall(r"\b(?:src|href)\s*=|url\(|import\s", html)
    assert set(re.findall(r"https?://[^\s\"']+", html)) == {"http://www.w3.org/2000/svg"}
    assert html.count('<g class="node ') == len(graph.nodes)
    assert html.count('<g class="edge ') == len(graph.weight)


def test_what_comes_from_data_is_escaped(tmp_path: Path) -> None:
    evil = replace(traced(), text=(EVIL, EVIL, EVIL), predicted=(EVIL, EVIL))
    html = render(
        evil, tmp_path / "graph.html", labels={"m0.f3": EVIL}, notes={"m0.f3": EVIL}, title=EVIL,
        groups={EVIL: ["m0.f7", "m1.f17"]},
    ).read_text(encoding="utf-8")  # fmt: skip
    assert "<img" not in html
    assert "</script" not in html
