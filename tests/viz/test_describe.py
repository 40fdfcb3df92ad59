from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from sae_circuits.errors import GraphError
from sae_circuits.graph import parse_edge, parse_node
from sae_circuits.viz import Picture
from sae_circuits.viz.boxes import NODE_HEIGHT
from sae_circuits.viz.describe import Look, describe
from sae_circuits.viz.dot import dot_image, dot_text, has_dot
from sae_circuits.viz.layout import curve, place, within_lines
from sae_circuits.viz.pages import circuit_fragment

# An SAE on what layer 0's MLP and layer 1's heads write, one on the stream, a skip transcoder.
EDGES = {
    "input->m0": 1.0,
    "m0.f17->a1.h0<k>": -2.0,
    "m0.error->a1.h0<q>": 0.5,
    "a1.f5->post1.f9": 1.5,
    "a1.error->post1.f9": -0.25,
    "post1.f9->m2.f14": 3.0,
    "post1.error->m2.skip": 0.125,
    "m2.f14->logits": -4.0,
    "m2.skip->logits": 1.0,
    "m2.error->logits": 0.0,
}


def drawn(edges: Mapping[str, float | None] = EDGES, **look: Any) -> Picture:
    return describe([parse_edge(name) for name in edges], list(edges.values()), Look(**look))


def rows(picture: Picture) -> list[list[str]]:
    return [[n.name for n in picture.nodes if n.row == row] for row in range(picture.n_rows)]


def test_rows_follow_the_forward_pass_within_each_layer() -> None:
    assert rows(drawn()) == [
        ["input"],
        ["m0"],
        ["m0.f17", "m0.error"],
        ["a1.h0"],
        ["a1.f5", "a1.error"],
        ["post1.f9", "post1.error"],
        ["m2.f14", "m2.skip", "m2.error"],
        ["logits"],
    ]
    assert drawn().row_names == {1: "layer 0", 3: "layer 1", 6: "layer 2"}


def test_what_a_part_reads_is_joined_with_what_is_written_of_it() -> None:
    assert drawn().within == (
        ("a1.h0", "a1.error"), ("a1.h0", "a1.f5"), ("m0", "m0.error"), ("m0", "m0.f17"),
    )  # fmt: skip
    two = drawn({"input@0->m0@0": 1.0, "m0.f1@0->logits@1": 1.0, "m0.f1@1->logits@1": 1.0})
    assert two.within == (("m0@0", "m0.f1@0"),)  # of one position
    shared = {"input->a0.kv0<k>": 1.0, "a0.f1->logits": 1.0}
    assert drawn(shared, share=2).within == (("a0.kv0", "a0.f1"),)
    with_query = {**shared, "input->a0.h1<q>": 1.0}
    assert drawn(with_query, share=2).within == (("a0.h1", "a0.f1"),)
    assert drawn(with_query, share=2).links == (("a0.kv0", "a0.h1"),)


def test_a_wide_drawing_is_shown_whole_and_can_be_scrolled() -> None:
    wide = {f"input->post0.f{i}": 1.0 for i in range(40)}
    assert place(drawn(wide)).width > 1500 > place(drawn()).width
    assert "in full size" in circuit_fragment(drawn(wide))
    assert "in full size" not in circuit_fragment(drawn())


def test_links_of_several_heads_to_several_parts_meet_in_one_point() -> None:
    edges = {
        "input->a0.h0<q>": 1.0, "input->a0.h1<q>": 1.0, "input->a0.h2<q>": 1.0,
        "a0.f1->logits": 1.0, "a0.error->logits": 1.0,
    }  # fmt: skip
    picture = drawn(edges)
    layout = place(picture)
    assert len(picture.within) == 3 * 2
    lines = within_lines(picture, layout)
    assert len(lines) == 3 + 2
    low, high = lines[:3], lines[3:]
    (middle,) = {control[-1] for *_, control in low} | {control[0] for *_, control in high}
    assert [control[0] for *_, control in low] == [
        layout.outlet(name) for name in ("a0.h0", "a0.h1", "a0.h2")
    ]
    assert layout.row_y(2) < middle[1] < layout.row_y(1)
    direct = drawn({"input->m0": 1.0, "m0.f1->logits": 1.0, "m0.error->logits": 1.0})
    assert [(a, b) for a, b, _ in within_lines(direct, place(direct))] == list(direct.within)


def test_in_parallel_blocks_mlps_stand_beside_heads() -> None:
    edges = {"input->a0.h1<q>": 1.0, "input->m0": 1.0, "a0.f1->logits": 1.0, "m0.f2->logits": 1.0}
    assert rows(drawn(edges, parallel=True)) == [
        ["input"], ["a0.h1", "m0"], ["a0.f1", "m0.f2"], ["logits"],
    ]  # fmt: skip


def test_labels_and_notes_are_found_with_and_without_a_position() -> None:
    edges = {"m0.f1@3->logits@4": 1.0, "m0.f1@2->logits@4": 1.0}
    picture = drawn(edges, labels={"m0.f1": "names", "m0.f1@2": "Mary"}, notes={"m0.f1": "top: a"})
    said = {node.name: (node.label, node.note) for node in picture.nodes}
    assert said["m0.f1@3"] == ("names", "top: a")
    assert said["m0.f1@2"] == ("Mary", "top: a")
    tip = next(node.tip for node in picture.nodes if node.name == "m0.f1@3")
    assert tip == "m0.f1@3 (feature)\nnames\ntop: a"
    assert picture.columns == ((2, "2"), (3, "3"), (4, "4"))


def test_a_group_is_one_node_whose_edges_are_sums() -> None:
    picture = drawn(groups={"early": ["m0.f17", "m0.error"], "late": ["m2.f14", "m2.error", "m9"]})
    nodes = {node.name: node for node in picture.nodes}
    assert nodes["early"].members == ("m0.f17", "m0.error")
    assert (nodes["early"].kind, nodes["early"].layer, nodes["early"].row) == ("group", 0, 2)
    assert nodes["late"].members == ("m2.f14", "m2.error")
    assert nodes["late"].tip == "late (group of nodes)\nm2.f14, m2.error"
    edges = {edge.name: edge for edge in picture.edges}
    assert edges["late->logits"].score == -4.0
    assert edges["early->a1.h0<k>"].score == -2.0
    assert edges["early->a1.h0<q>"].score == 0.5
    assert ("m0", "early") in picture.within
    assert "m0.f17" not in nodes
    ports = drawn(groups={"all of it": ["m0.f17", "m0.error", "a1.h0"]})
    assert {edge.src for edge in ports.edges} & {"m0.f17"} == set()  # inside, no edge is drawn


def test_scores_of_one_sign_add_up_and_others_cancel() -> None:
    edges = {"input->m0.f1": 2.0, "input->m0.f2": -2.0, "m0.f1->logits": 1.0, "m0.f2->logits": 2.5}
    picture = drawn(edges, groups={"both": ["m0.f1", "m0.f2"]})
    assert {edge.name: edge.score for edge in picture.edges} == {
        "input->both": 0.0, "both->logits": 3.5,
    }  # fmt: skip
    assert [edge.effect for edge in picture.edges] == ["unknown", "hurts"]
    bare = drawn(dict.fromkeys(edges), groups={"both": ["m0.f1", "m0.f2"]})
    assert {edge.score for edge in bare.edges} == {None}


def test_the_strongest_lines_are_kept_after_adding_up() -> None:
    edges = {"input->m0.f1": 2.0, "input->m0.f2": 2.0, "input->a0.h0<q>": 3.0}
    kept = drawn(edges, groups={"both": ["m0.f1", "m0.f2"]}, max_edges=1)
    assert [edge.name for edge in kept.edges] == ["input->both"]
    assert [node.name for node in kept.nodes] == ["input", "both"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ["m0.f17"], "b": ["m0.f17"]}, "'m0.f17' is in two groups: 'a' and 'b'"),
        ({"a": ["17"]}, "'17' is not a node's name"),
        ({"m0": ["m0.f17"]}, "the group 'm0' has the name of a node"),
    ],
)
def test_groups_that_make_no_sense_are_refused(groups: dict[str, list[str]], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        drawn(groups=groups)


def test_boxes_grow_with_their_text_and_keep_their_distance() -> None:
    long = "the second of two names, after 'and', in a list that goes on and on"
    layout = place(drawn({"post11.f16383->logits": 1.0}, labels={"post11.f16383": long}))
    box = layout.boxes["post11.f16383"]
    assert box.lines == ("the second of two", "names, after 'and', …")
    assert box.width > 90
    assert box.height > NODE_HEIGHT
    x, y = layout.nodes["post11.f16383"]
    assert layout.paths["post11.f16383->logits"][0] == (x, y - box.height / 2)


def test_between_groups_lines_may_run_down_and_are_drawn_as_loops() -> None:
    edges = {"m0.f1->m1.f2": 1.0, "m1.f2->m2.f3": 1.0, "m2.f3->logits": 1.0}
    picture = drawn(edges, groups={"ends": ["m0.f1", "m2.f3"]})
    layout = place(picture)
    high = [name for name, path in layout.paths.items() if path[0][1] <= path[-1][1]]
    assert high == ["m1.f2->ends"]
    start, leave, enter, end = curve(layout.paths[high[0]])
    assert leave[1] < start[1]
    assert enter[1] > end[1]
    circuit_fragment(picture)


def test_each_kind_has_a_look_and_a_line_in_the_legend() -> None:
    html = str(circuit_fragment(drawn(groups={"g": ["a1.f5"]})))
    for kind, said in {
        "feature": "feature", "error": "error node: what features or neurons leave",
        "skip": "skip term: what passes the features by", "group": "group of nodes",
    }.items():  # fmt: skip
        assert f'class="node {kind}"><title>' in html
        assert f"</svg>{said}" in html
    assert "from what a part reads to what is written of it; no edge" in html
    text = dot_text(drawn(groups={"g": ["a1.f5"]}))
    assert 'COLOR="#009E73" BGCOLOR="#CFECE1"' in text
    assert text.count('STYLE="DASHED"') == 4
    assert "thin grey lines lead from what a part reads" in text


def test_what_comes_from_data_is_escaped() -> None:
    evil = '"><script>alert(1)</script>\\N & <b>'
    picture = drawn(
        labels={"m0.f17": evil}, notes={"m0.error": evil}, groups={evil: ["m2.f14", "m2.error"]}
    )
    html = str(circuit_fragment(picture))
    assert "<script" not in html
    assert "<b>&" not in html
    text = dot_text(picture)
    labels = re.findall(r"label=<(.*?)>>", text)
    assert not any("<script" in label for label in labels)
    assert r"<script>alert(1)</script>\\N" in text  # in a quoted string, its escape escaped
    ids = [line.split()[0] for line in text.splitlines() if "label=" in line]
    assert not any("alert" in name for name in ids)
    if has_dot():
        assert b"<script" not in dot_image(picture, "svg")


def test_names_are_those_of_the_grammar() -> None:
    for node in drawn().nodes:
        assert parse_node(node.name).name == node.name
