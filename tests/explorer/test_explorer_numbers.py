"""What the page shows is what the library says: edges, sums and ways, in a real browser."""

from __future__ import annotations

from itertools import product

import pytest

import reference_explorer as slow
import sae_circuits as sc
from sae_circuits.graph import Circuit, Scores
from small_circuits import graph_of
from small_explorer import smooth, tied, written
from small_graphs import random_traced

pytestmark = pytest.mark.browser

SHOWN = "explorer.graph().edges.map((edge) => edge.id).sort()"
AT_SIZES = f"(sizes) => sizes.map((size) => {{ explorer.change({{ size }}); return {SHOWN}; }})"
LISTS = """() => { const graph = explorer.graph(), plain = (map) => Object.fromEntries(
    [...map].map(([id, edges]) => [id, edges.map((edge) => [edge.id, edge.score])]));
  return { into: plain(graph.into), outOf: plain(graph.outOf),
           nodes: graph.nodes.map((node) => node.id), joins: graph.joins }; }"""
WAYS = """() => { const graph = explorer.graph();
  return graph.nodes.map(({ id }) => [id, [...explorer.through(graph, id)],
    [...explorer.strongest(graph, id)]]); }"""


def edge_names(circuit: Circuit) -> list[str]:
    return sorted(edge.name for edge in circuit.edges)


def scored(circuit: Circuit) -> dict[str, float]:
    assert circuit.scores is not None
    return {edge.name: circuit.scores[edge] for edge in circuit.edges}


# -- sizes and thresholds --------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "made"), product(["abs", "help", "hurt"], [smooth, tied]))
def test_at_each_size_the_page_shows_what_top_n_keeps(visit, tmp_path, by: str, made) -> None:
    scores = made(seed=3)
    n = scores.graph.n_edges
    page = visit(written(tmp_path, sc.prune.top_n(scores, 12, by=by)))
    shown = page.evaluate(AT_SIZES, list(range(n + 1)))
    for size, edges in enumerate(shown):
        assert edges == edge_names(sc.prune.top_n(scores, size, by=by)), size


@pytest.mark.parametrize(("by", "made"), product(["abs", "help", "hurt"], [smooth, tied]))
def test_at_each_threshold_the_page_shows_what_threshold_keeps(
    visit, tmp_path, by: str, made
) -> None:
    scores = made(seed=4)
    own = sorted(set(scores.values.tolist()))
    asked = [*own, *(-x for x in own), 0.0, 0.7, -0.1, 1e9, -1e9]
    page = visit(written(tmp_path, sc.prune.top_n(scores, 12, by=by)))
    sizes = page.evaluate("(asked) => asked.map(explorer.sizeAt)", asked)
    for value, edges in zip(asked, page.evaluate(AT_SIZES, sizes), strict=True):
        assert edges == edge_names(sc.prune.threshold(scores, value, by=by)), value


@pytest.mark.parametrize("double", [False, True])
def test_a_threshold_has_the_digits_of_the_scores(visit, tmp_path, double: bool) -> None:
    """0.7 in 32 bits is less than in 64, and is kept at a threshold of 0.7 all the same."""
    scores = smooth()
    values = scores.values.clone()
    values[:3] = 0.7
    values = values.double() if double else values
    scores = Scores(scores.graph, values, scores.provenance)
    page = visit(written(tmp_path, sc.prune.top_n(scores, 5)))
    assert page.evaluate("explorer.sizeAt(0.7)") == len(sc.prune.threshold(scores, 0.7))


def test_the_threshold_that_is_said_gives_the_same_edges(visit, tmp_path) -> None:
    page = visit(written(tmp_path, sc.prune.top_n(smooth(3, 2), 12)))
    said = page.evaluate(
        "explorer.view.edges.map((_, i) => [i + 1, explorer.sizeAt(explorer.thresholdOf(i + 1))])"
    )
    assert all(size == again for size, again in said)


def test_by_hand_and_by_slider_sizes_and_thresholds_go_together(visit, tmp_path) -> None:
    scores = smooth()
    page = visit(written(tmp_path, sc.prune.top_n(scores, 12)))
    count, least = page.get_by_label("Number of edges, exactly"), page.get_by_label("Least score")
    slider = page.get_by_label("Number of edges", exact=True)
    assert count.input_value() == "12"
    for n in (1, 7, 30):
        count.fill(str(n))
        count.press("Enter")
        assert page.evaluate(SHOWN) == edge_names(sc.prune.top_n(scores, n))
        again = sc.prune.threshold(scores, float(least.input_value()))
        assert edge_names(again) == edge_names(sc.prune.top_n(scores, n))
    least.fill("1.0")
    least.press("Enter")
    assert page.evaluate(SHOWN) == edge_names(sc.prune.threshold(scores, 1.0))
    before = int(count.input_value())
    slider.focus()
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("explorer.graph().edges.length === explorer.state().size")
    size = page.evaluate("explorer.state().size")
    assert size > before
    assert count.input_value() == str(size)
    assert float(least.input_value()) < 1
    assert page.evaluate(SHOWN) == edge_names(sc.prune.top_n(scores, size))
    page.get_by_role("button", name="As given").click()
    assert page.evaluate(SHOWN) == edge_names(sc.prune.top_n(scores, 12))


def test_a_page_that_holds_a_part_of_the_edges_says_so(visit, tmp_path) -> None:
    scores = smooth(3, 2)
    n = scores.graph.n_edges
    page = visit(written(tmp_path, sc.prune.top_n(scores, 12), max_edges=40))
    assert page.locator(".count").inner_text().endswith(f"12 of {n} edges")
    page.get_by_label("Number of edges, exactly").fill("99")
    page.keyboard.press("Enter")
    assert (
        page.locator(".said").inner_text()
        == "This page holds the first 40 edges: make it anew with more"
    )
    assert page.evaluate(SHOWN) == edge_names(sc.prune.top_n(scores, 40))
    page.get_by_label("Least score").fill("0")
    page.keyboard.press("Enter")
    assert page.locator(".said").inner_text().startswith("This page holds the first 40")


def test_a_circuit_of_other_edges_is_shown_as_it_is(visit, tmp_path) -> None:
    scores = smooth(3, 2)
    circuit = sc.prune.best_first(scores, 15)
    page = visit(written(tmp_path, circuit))
    assert page.evaluate(SHOWN) == edge_names(circuit)
    assert page.get_by_label("Least score").count() == int(circuit.explore().own is False)


# -- lists and sums --------------------------------------------------------------------------------


def check(found, lines: dict[str, float]) -> None:
    """The lists of the page hold what the reference says, the largest first."""
    for way, reference in (("into", slow.into), ("outOf", slow.out_of)):
        for node in found["nodes"]:
            edges = found[way].get(node, [])
            assert {name for name, _ in edges} == {name for name, _ in reference(lines, node)}
            assert dict(map(tuple, edges)) == pytest.approx(dict(reference(lines, node)))
            sizes = [abs(score) for _, score in edges]
            assert sizes == sorted(sizes, reverse=True)
    assert set(found["nodes"]) == {end for name in lines for end in slow.line(name)[:2]}


@pytest.mark.parametrize("seed", range(3))
def test_what_leads_to_and_from_nodes_and_groups_are_sums(visit, tmp_path, seed: int) -> None:
    scores = smooth(3, 3, seed=seed)
    circuit = sc.prune.top_n(scores, 60)
    groups = {"early": ["a0.h0", "a0.h2", "m0"], "late": ["a2.h1", "m1"]}
    page = visit(written(tmp_path, circuit, groups=groups))
    check(page.evaluate(LISTS), slow.grouped(scored(circuit), groups))
    page.evaluate("explorer.change({ groups: {} })")
    check(page.evaluate(LISTS), slow.grouped(scored(circuit)))
    page.evaluate("explorer.change({ hidden: ['m1', 'a0.h1'], layers: [0, 1] })")
    left = {
        name: score
        for name, score in scored(circuit).items()
        if not {"m1", "a0.h1"} & set(slow.line(name)[:2])
        and "2" not in name[:2] + name.partition("->")[2][:2]
    }
    check(page.evaluate(LISTS), slow.grouped(left))


def test_filters_by_kind_sign_position_and_name(visit, tmp_path) -> None:
    graph = random_traced(4, 5, 60)
    lines = {e.name: w for e, w in zip(graph.edges, graph.weight.tolist(), strict=True)}
    page = visit(written(tmp_path, graph))

    def shown(patch: dict) -> set[str]:
        page.evaluate("(patch) => explorer.change({ ...explorer.complete({}), ...patch })", patch)
        return set(page.evaluate(SHOWN))

    def kept(test) -> set[str]:
        return {name for name in lines if all(map(test, slow.line(name)[:2]))}

    assert shown({}) == set(lines)
    assert shown({"kinds": ["error"]}) == kept(lambda node: ".error" not in node)
    assert shown({"kinds": ["feature", "error"]}) == kept(lambda node: node[0] in "il")
    assert shown({"columns": [0, 3]}) == kept(lambda node: node[-2:] not in ("@0", "@3"))
    assert shown({"signs": ["negative"]}) == {n for n, w in lines.items() if w >= 0}
    assert shown({"signs": ["positive"]}) == {n for n, w in lines.items() if w <= 0}
    layered = lambda node: node[0] != "m" or 1 <= int(node[1]) <= 2  # noqa: E731
    assert shown({"layers": [1, 2]}) == kept(layered)
    assert shown({"only": "m1.f* m3"}) == kept(
        lambda node: node[0] in "il" or node.startswith(("m1.f", "m3."))
    )
    some = next(node for name in lines for node in slow.line(name)[:2] if node[0] == "m")
    assert shown({"only": some}) == kept(lambda node: node[0] in "il" or node == some)


# -- ways ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_ways_through_a_node_are_all_and_the_widest(visit, tmp_path, seed: int) -> None:
    circuit = sc.prune.top_n(smooth(2, 2, seed=seed), 24)
    lines = scored(circuit)
    page = visit(written(tmp_path, circuit))
    graph = slow.ways(lines)
    for node, through, strongest in page.evaluate(WAYS):
        every = slow.through(graph, node, "input", "logits")
        assert set(through) == every, node
        if every:
            sizes = [abs(lines[name]) for name in strongest]
            assert min(sizes) == pytest.approx(slow.widest(graph, node, "input", "logits"))
            assert set(strongest) <= every
            assert is_way([slow.line(name) for name in strongest], node)


def is_way(edges: list[slow.Line], node: str) -> bool:
    """Whether edges, in some order, lead from the input through a node to the logits."""
    after = {src: dest for src, dest, _ in edges}
    seen = ["input"]
    while seen[-1] in after:
        seen.append(after[seen[-1]])
    return seen[-1] == "logits" and node in seen and len(seen) == len(edges) + 1


def test_ways_go_through_what_a_part_reads_and_writes(visit, tmp_path) -> None:
    """A line into a shared key or value head leads on from the heads that read it."""
    graph = graph_of(2, 4, 2)
    scores = smooth_of(graph)
    circuit = sc.prune.top_n(scores, 30)
    page = visit(written(tmp_path, circuit))
    joins = [tuple(pair) for pair in page.evaluate(LISTS)["joins"]]
    assert any(a.partition(".")[2].startswith("kv") for a, _ in joins)
    ways = slow.ways(scored(circuit), joins)
    for node, through, _ in page.evaluate(WAYS):
        assert set(through) == slow.through(ways, node, "input", "logits"), node


def smooth_of(graph) -> Scores:
    import torch

    values = torch.randn(graph.n_edges, generator=torch.Generator().manual_seed(0))
    return Scores(graph, values)


def test_groups_may_stand_on_a_way_to_themselves(visit, tmp_path) -> None:
    scores = smooth(3, 2)
    circuit = sc.prune.top_n(scores, 60)
    groups = {"both ends": ["a0.h0", "m2"], "middle": ["m0", "a2.h1"]}
    page = visit(written(tmp_path, circuit, groups=groups))
    for _, through, strongest in page.evaluate(WAYS):
        assert set(strongest) <= set(through)
