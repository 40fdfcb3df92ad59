"""What a page is given of circuits, curves, stores and groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sae_circuits as sc
from sae_circuits.errors import (
    FileFormatError,
    GraphError,
    NumericalError,
    OptionError,
    OutputError,
)
from sae_circuits.graph import Circuit, Scores
from small_circuits import by_hand, graph_of
from small_explorer import MADE, curve_of, drawn, smooth, tied
from small_graphs import traced


def names(view: sc.CircuitView) -> list[str]:
    """The names of a view's edges, in its order."""
    parts, lines = view.parts, view.lines
    return [
        f"{parts[a].name}->{parts[b].name}" + (f"<{port}>" if port else "")
        for a, b, port in zip(lines.src, lines.dest, lines.port, strict=True)
    ]


def test_a_circuit_comes_with_the_edges_that_would_be_next() -> None:
    scores = smooth()
    view = sc.prune.top_n(scores, 10, by="help").explore(max_edges=20)
    values = dict(
        zip((edge.name for edge in scores.graph.edges), scores.values.tolist(), strict=True)
    )
    best = sorted(values, key=values.__getitem__)
    assert names(view) == best[:20]
    assert (view.size, view.by, view.own, view.n_edges) == (10, "help", False, scores.graph.n_edges)
    assert view.lines.score == tuple(scores[name] for name in best[:20])
    assert view.about.title == "toy · ioi · eap-ig"
    assert view.about.line == f"10 of {scores.graph.n_edges} edges"
    assert repr(view) == f"CircuitView('toy · ioi · eap-ig': 10 edges of {scores.graph.n_edges})"


def test_a_circuit_of_other_edges_than_the_best_says_so() -> None:
    odd = Circuit.from_edges(by_hand().graph, ["a0.h1->a1.h0<k>"], by_hand().scores)
    view = odd.explore()
    assert (view.size, view.own, names(view)[0]) == (1, True, "a0.h1->a1.h0<k>")
    assert "by rank among themselves" in view.about.line


def test_a_circuit_without_scores_has_its_edges_alone() -> None:
    circuit = replace(by_hand(), scores=None)
    view = circuit.explore()
    assert sorted(names(view)) == sorted(edge.name for edge in circuit.edges)
    assert (view.by, set(view.lines.score)) == (None, {None})


def test_an_empty_circuit_is_the_best_of_no_edges() -> None:
    view = sc.prune.top_n(smooth(), 0).explore(max_edges=5)
    assert (view.size, view.by, view.own, len(names(view))) == (0, "abs", False, 5)


def test_a_circuit_by_span_has_a_node_for_each_span() -> None:
    one, two = smooth(seed=0), smooth(seed=1)
    spans = sc.SpanScores({"names": one, "end": two}, {"names": 0, "end": 1})
    circuit = sc.prune.top_n(spans, 12)
    view = circuit.explore()
    assert view.columns == ("names", "end")
    shown = set(names(view)[: view.size])
    expected = set()
    for i, (_, part) in enumerate(circuit.parts.items()):
        for edge in part.edges:
            src, _, dest = edge.name.partition("->")
            dest, _, port = dest.partition("<")
            expected.add(f"{src}@{i}->{dest}@{i}" + (f"<{port}" if port else ""))
    assert shown == expected
    assert {part.text for part in view.parts} <= {n.name for n in graph_of(2, 2).nodes}


def test_an_attribution_graph_is_ranked_by_the_size_of_its_weights() -> None:
    graph = traced()
    view = graph.explore()
    weights = dict(zip((edge.name for edge in graph.edges), graph.weight.tolist(), strict=True))
    assert names(view) == sorted(weights, key=lambda name: -abs(weights[name]))
    assert view.lines.score == tuple(weights[name] for name in names(view))
    assert (view.about.measure, view.size, view.columns) == ("weight", 9, ("Mary", " and", " John"))
    assert [graph.explore(max_edges=n).size for n in (1, 4)] == [1, 4]


def test_a_graph_without_edges_has_a_view() -> None:
    none = traced().weight[:0]
    view = replace(traced(), weight=none, src=none.long(), dest=none.long()).explore()
    assert (view.parts, view.size) == ((), 0)


def test_scores_that_are_no_numbers_are_refused() -> None:
    scores = smooth()
    bad = replace(scores, values=scores.values.clone().fill_(float("nan")))
    with pytest.raises(NumericalError, match="not finite numbers"):
        replace(Circuit.full(scores.graph), scores=bad).explore()


@pytest.mark.parametrize("n", [0, -3])
def test_a_page_of_no_edges_is_refused(n: int) -> None:
    with pytest.raises(OptionError, match="give 1 or more"):
        by_hand().explore(max_edges=n)


# -- curves ----------------------------------------------------------------------------------------


def test_a_curve_of_the_same_scores_is_shown() -> None:
    scores = smooth()
    curve = curve_of(scores)
    found = sc.prune.top_n(scores, 10).explore(curve=curve).curve
    assert found is not None
    assert (found.metric, found.n_edges) == ("logit_diff", curve.n_edges)
    assert found.faithfulness == curve.faithfulness
    assert list(zip(found.low, found.high, strict=True)) == list(curve.band)
    assert found.random == pytest.approx([(a + b) / 2 for a, b in zip(*curve.random, strict=True)])


def test_a_curve_by_another_order_is_taken_where_the_circuit_is_the_best_by_that_too() -> None:
    graph = graph_of(1, 1)
    scores = Scores(graph, -torch.arange(1.0, graph.n_edges + 1), MADE)
    circuit = sc.prune.top_n(scores, 3, by="help")
    assert circuit.explore().by == "abs"
    assert circuit.explore(curve=curve_of(scores, "help")).by == "help"


def other(scores: Scores, **changed: str) -> object:
    return curve_of(scores, provenance=replace(scores.provenance, **changed))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda s: curve_of(s, "help"),
            "the curve is by 'help', and the circuit is the best by 'a",
        ),
        (
            lambda s: other(s, metric="kl"),
            "the metric of the curve is 'kl', and that of the circui",
        ),
        (lambda s: other(s, method="eap"), "the method of the curve is 'eap'"),
        (lambda s: other(s, model="gpt2"), "the model of the curve is 'gpt2'"),
        (lambda s: curve_of(smooth(3, 2)), "the curve is of a graph of "),
        (lambda s: curve_of(s, pruner="best_first"), "the curve is of circuits by 'best_first'"),
    ],
)
def test_a_curve_of_another_thing_is_refused(made, message: str) -> None:
    scores = smooth()
    with pytest.raises(OptionError, match=message):
        sc.prune.top_n(scores, 10).explore(curve=made(scores))


def test_curves_go_with_the_best_edges_of_one_circuit_alone() -> None:
    scores = smooth()
    best, curve = sc.prune.top_n(scores, 10), curve_of(scores)
    odd = Circuit.from_edges(scores.graph, [scores.top(9)[-1][0]], scores)
    for circuit, options, message in (
        (best, {"other": best}, "two circuits have none"),
        (traced(), {}, "an attribution graph has none"),
        (replace(best, scores=None), {}, "the circuit has no scores"),
        (odd, {}, "not the best of its size"),
    ):
        with pytest.raises(OptionError, match=message):
            circuit.explore(curve=curve, **options)


# -- two circuits ----------------------------------------------------------------------------------


def test_two_circuits_are_compared_by_the_numbers_of_overlap() -> None:
    one, two = smooth(seed=1), smooth(seed=2)
    a, b = sc.prune.top_n(one, 12), sc.prune.top_n(two, 9)
    view = a.explore(other=b, names=("first", "second"))
    known = sc.overlap(a, b)
    for found, of in ((view.overlap.edges, known.edges), (view.overlap.nodes, known.nodes)):
        assert (found.both, found.only_a, found.only_b) == (
            of.n_shared, of.n_first - of.n_shared, of.n_second - of.n_shared,
        )  # fmt: skip
        assert (found.jaccard, found.chance) == (of.jaccard, of.expected_jaccard)
    sides = dict(zip(names(view), view.lines.side, strict=True))
    mine, theirs = ({edge.name for edge in c.edges} for c in (a, b))
    assert {name for name, side in sides.items() if side == "both"} == mine & theirs
    assert {name for name, side in sides.items() if side == "a"} == mine - theirs
    assert {name for name, side in sides.items() if side == "b"} == theirs - mine
    assert view.lines.score == tuple(one[name] for name in names(view))
    assert view.lines.other == tuple(two[name] for name in names(view))
    assert view.about.title == "first and second"
    assert "widths by the scores of first" in view.about.line


def test_circuits_are_named_by_what_differs_of_them() -> None:
    scores = smooth()
    best = sc.prune.top_n(scores, 5)
    for change, title in (
        ({"method": "eap"}, "eap-ig and eap"),
        ({"task": "induction"}, "ioi and induction"),
        ({}, "A and B"),
    ):
        changed = replace(scores, provenance=replace(MADE, **change))
        assert best.explore(other=replace(best, scores=changed)).about.title == title


def test_only_two_circuits_of_one_graph_are_compared() -> None:
    with pytest.raises(GraphError, match=r"belongs to another graph.*other\.on\(circuit\.graph\)"):
        by_hand().explore(other=sc.prune.top_n(smooth(3, 2), 5))
    with pytest.raises(OptionError, match="a AttributionGraph cannot be compared"):
        traced().explore(other=by_hand())
    with pytest.raises(OptionError, match="a AttributionGraph cannot be compared"):
        by_hand().explore(other=traced())


# -- what people add -------------------------------------------------------------------------------


def test_groups_have_labels_and_notes_and_are_checked() -> None:
    view = traced().explore(
        groups={"names": ["m0.f3", "m0.f7"]}, labels={"names": "who", "m1.f17": "due"},
        notes={"names": "John and Mary"},
    )  # fmt: skip
    group = view.groups["names"]
    assert (group.members, group.label, group.note) == (("m0.f3", "m0.f7"), "who", "John and Mary")
    assert next(part for part in view.parts if part.name == "m1.f17@2").label == "due"
    with pytest.raises(GraphError, match="in two groups"):
        traced().explore(groups={"a": ["m0.f3"], "b": ["m0.f3@0"]})
    with pytest.raises(GraphError, match="has the name of a node"):
        traced().explore(groups={"m1.f17@2": ["m0.f3"]})
    with pytest.raises(GraphError):
        traced().explore(groups={"a": ["no such"]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is no arrangement"),
        ("{", "page.json"),
        ('{"format": "sae-circuits", "kind": "circuit", "schema": 1}', "is no arrangement"),
        ('{"format": "sae-circuits", "kind": "arrangement", "schema": 9}', "is in schema 9"),
        ('{"format": "sae-circuits", "kind": "arrangement", "schema": 1}', "holds no state"),
        ('{"format": "sae-circuits", "kind": "arrangement", "schema": 1, "state": {"groups": '
         '{"x": {"members": ["m9.f1@4"], "label": "", "note": ""}}}}', "of another circuit"),
    ],
)  # fmt: skip
def test_what_is_no_arrangement_of_this_circuit_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "page.json").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        traced().explore(arrangement=tmp_path / "page.json")
    with pytest.raises(FileFormatError):
        traced().explore(arrangement=tmp_path / "none.json")


# -- files and notebooks ---------------------------------------------------------------------------


def test_a_page_is_html(tmp_path: Path) -> None:
    view = by_hand().explore(tmp_path / "page.html", title="mine")
    assert view.about.title == "mine"
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text == view.render(tmp_path / "again.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") or text.startswith("<!doctype html>")
    assert 'srcdoc="' in view._repr_html_()
    with pytest.raises(OutputError, match=r"end it in \.html"):
        by_hand().explore(tmp_path / "page.svg")
    with pytest.raises(OutputError, match=r"end it in \.html"):
        view.render(tmp_path / "page.json")


def test_all_that_can_be_explored_says_so(tmp_path: Path) -> None:
    spans = sc.prune.top_n(sc.SpanScores({"a": tied(), "b": smooth()}, {"a": 0, "b": 1}), 4)
    for one in (by_hand(), spans, traced(), drawn(60, 100)):
        assert one.explore(tmp_path / "page.html").size == len(
            one.weight if isinstance(one, sc.AttributionGraph) else one
        )
