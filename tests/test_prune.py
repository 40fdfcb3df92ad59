"""Pruners against slow versions on edge objects, and the laws that they obey."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import RANDOM, architecture, circuits, scored
from sae_circuits import prune
from sae_circuits.errors import GraphError, NumericalError
from sae_circuits.graph import Circuit, Node, Scores, TensorGraph

pytestmark = pytest.mark.filterwarnings(f"ignore:{RANDOM}")

orders = st.sampled_from(["abs", "help", "hurt"])
KEYS = {"abs": abs, "help": lambda x: -x, "hurt": lambda x: x}


def keys(scores: Scores, by: str) -> list[float]:
    return [KEYS[by](value) for value in scores.values.tolist()]


# -- by score ------------------------------------------------------------------------------------


@given(scored(), orders, st.data())
def test_top_n_is_exact_nested_and_gives_ties_to_the_lower_id(scores, by, data):
    n = data.draw(st.integers(0, scores.graph.n_edges))
    circuit, key = prune.top_n(scores, n, by=by), keys(scores, by)
    expected = sorted(range(len(key)), key=lambda i: (-key[i], i))[:n]
    assert circuit.mask.nonzero()[:, 0].tolist() == sorted(expected)
    assert len(circuit) == n
    if n:
        assert prune.top_n(scores, n - 1, by=by) < circuit
    assert circuit.scores is scores


@given(scored(), orders, st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 9.0]))
def test_threshold_keeps_what_counts_at_least_that(scores, by, value):
    circuit = prune.threshold(scores, value, by=by)
    assert circuit.mask.tolist() == [k >= value for k in keys(scores, by)]
    assert prune.threshold(scores, value + 0.1, by=by) <= circuit


@given(scored(), orders, st.floats(0, 1))
def test_cumulative_influence_is_the_smallest_set_that_holds_the_share(scores, by, share):
    circuit, key = prune.cumulative_influence(scores, share, by=by), keys(scores, by)
    weights = [max(k, 0.0) for k in key]
    held = [w for w, on in zip(weights, circuit.mask.tolist(), strict=True) if on]
    total = sum(weights)
    assert sum(held) >= share * total - 1e-9
    if held:
        assert sum(held) - min(held) < share * total + 1e-9
    assert circuit == prune.top_n(scores, len(circuit), by=by)
    assert prune.cumulative_influence(scores, share / 2, by=by) <= circuit


def test_cumulative_influence_at_its_ends():
    graph = TensorGraph.from_model(architecture(1, 1))
    values = torch.tensor([0.0, 3.0, 0.0, -4.0, 1.0, 0.0, 0.0, 0.0])
    scores = Scores(graph, values)
    assert len(prune.cumulative_influence(scores, 0)) == 0
    assert len(prune.cumulative_influence(scores, 1)) == 3
    assert prune.cumulative_influence(scores, 0.5) == prune.top_n(scores, 1)
    assert prune.cumulative_influence(scores, 0.51) == prune.top_n(scores, 2)
    assert len(prune.cumulative_influence(scores, 1, by="help")) == 1
    assert len(prune.cumulative_influence(0 * scores, 1)) == 0
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(GraphError, match="a number from 0 to 1"):
            prune.cumulative_influence(scores, share)


@given(scored(), orders, st.data())
def test_top_nodes_keeps_all_edges_among_the_best_components(scores, by, data):
    graph = scores.graph
    attribution = {n: s for n, s in scores.by_source().items() if n.kind != "input"}
    n = data.draw(st.integers(0, len(attribution)))
    ranked = sorted(attribution, key=lambda node: -KEYS[by](round(attribution[node], 9)))
    kept = {Node("input"), Node("logits"), *ranked[:n]}
    group = graph.architecture.n_heads // graph.architecture.n_kv_heads
    shared = {Node("kv", k.layer, k.index // group) for k in kept if k.kind == "head"}
    circuit = prune.top_nodes(scores, n, by=by)
    expected = [e.name for e in graph.edges if e.src in kept and e.dest.component in kept | shared]
    assert [edge.name for edge in circuit.edges] == expected


# -- growth --------------------------------------------------------------------------------------


def slow_growth(scores: Scores, n: int, by: str) -> set[str]:
    """Greedy growth on edge objects: look at every edge at every step."""
    graph = scores.graph
    group = graph.architecture.n_heads // graph.architecture.n_kv_heads
    order = {edge.name: i for i, edge in enumerate(graph.edges)}
    reached, taken = {Node("logits")}, set()
    while len(taken) < n:
        open_edges = [e for e in graph.edges if e.dest.component in reached and e.name not in taken]
        best = max(open_edges, key=lambda e: (KEYS[by](scores[e]), -order[e.name]))
        taken.add(best.name)
        reached.add(best.src)
        if best.src.kind == "head":
            reached.add(Node("kv", best.src.layer, best.src.index // group))
    return taken


@given(scored(), orders, st.data())
def test_best_first_is_greedy_growth_from_the_logits(scores, by, data):
    n = data.draw(st.integers(0, min(scores.graph.n_edges, 25)))
    circuit = prune.best_first(scores, n, by=by)
    assert {edge.name for edge in circuit.edges} == slow_growth(scores, n, by)
    if n:
        assert prune.best_first(scores, n - 1, by=by) < circuit


@given(scored())
def test_every_edge_that_best_first_takes_leads_to_the_logits(scores):
    n = scores.graph.n_edges // 3
    grown = prune.best_first(scores, n)
    with_input = grown | prune.top_nodes(0 * scores, 0)  # input->logits
    for src in range(1, scores.graph.n_src):  # and the input into every component
        for dest in scores.graph.readers_of[src]:
            mask = with_input.mask.clone()
            mask[scores.graph.offsets[dest]] = True
            with_input = with_input.with_mask(mask)
    assert grown <= prune.drop_dead_nodes(with_input)
    assert prune.best_first(scores, scores.graph.n_edges) == Circuit.full(scores.graph)


def test_best_first_takes_a_weak_edge_to_reach_a_strong_one():
    graph = TensorGraph.from_model(architecture(1, 1))
    scores = Scores(graph, torch.zeros(graph.n_edges))
    values = scores.values.clone()
    for name, value in {"input->m0": 5.0, "a0.h0->m0": 4.0, "m0->logits": 0.1}.items():
        values[graph.edge_id(name)] = value
    grown = prune.best_first(Scores(graph, values), 3)
    assert {e.name for e in grown.edges} == {"m0->logits", "input->m0", "a0.h0->m0"}
    assert [e.name for e in prune.best_first(Scores(graph, values), 1).edges] == ["m0->logits"]


def test_best_first_says_how_far_it_gets_where_the_graph_is_cut():
    graph = TensorGraph.from_model(architecture(2, 1)).subgraph(["input", "m0", "a1.h0"])
    with pytest.raises(GraphError, match="1 edges asked for, growth from the logits reaches 0"):
        prune.best_first(Scores(graph, torch.zeros(graph.n_edges)), 1)


def test_ten_thousand_edges_grow_to_nested_circuits_in_a_graph_of_24_layers():
    graph = TensorGraph.from_model(architecture(24, 16))
    scores = Scores(graph, torch.randn(graph.n_edges, generator=torch.Generator().manual_seed(0)))
    grown = prune.best_first(scores, 10_000)
    assert len(grown) == 10_000
    assert prune.best_first(scores, 5_000) <= grown


# -- dead nodes ----------------------------------------------------------------------------------


def remove_until_nothing_changes(circuit: Circuit) -> set[str]:
    """Take out edges that nothing feeds or that feed nothing, again and again."""
    group = circuit.graph.architecture.n_heads // circuit.graph.architecture.n_kv_heads

    def component(node: Node) -> tuple:  # a shared key/value head stands for its whole group
        return ("kv" if node.kind == "kv" else node.kind, node.layer, node.index)

    def feeds(dest: Node, src: Node) -> bool:
        if dest.kind == "kv":
            return (
                src.kind == "head"
                and component(src) == ("head", dest.layer, src.index)
                and (src.index // group == dest.index)
            )
        return dest.component == src

    edges = {edge.name: edge for edge in circuit.edges}
    while True:
        dead = [
            name
            for name, edge in edges.items()
            if (
                edge.src.kind != "input"
                and not any(feeds(other.dest, edge.src) for other in edges.values())
            )
            or (
                edge.dest.kind != "logits"
                and not any(feeds(edge.dest, other.src) for other in edges.values())
            )
        ]
        if not dead:
            return set(edges)
        for name in dead:
            del edges[name]


@given(circuits().filter(lambda c: len(c) <= 60))
def test_dead_nodes_are_dropped_to_the_fixpoint(circuit):
    live = prune.drop_dead_nodes(circuit)
    assert {edge.name for edge in live.edges} == remove_until_nothing_changes(circuit)
    assert prune.drop_dead_nodes(live) == live
    assert live <= circuit


def test_a_chain_dies_from_its_open_end():
    graph = TensorGraph.from_model(architecture(2, 1))
    chain = ["input->a0.h0<v>", "a0.h0->m0", "m0->a1.h0<k>", "a1.h0->logits"]
    assert len(prune.drop_dead_nodes(Circuit.from_edges(graph, chain))) == 4
    for missing in chain:
        left = [name for name in chain if name != missing]
        assert len(prune.drop_dead_nodes(Circuit.from_edges(graph, left))) == 0


def test_a_shared_key_keeps_every_head_that_reads_it_alive():
    graph = TensorGraph.from_model(architecture(1, 4, 2))
    edges = ["input->a0.kv1<k>", "a0.h2->logits", "a0.h3->logits"]
    assert len(prune.drop_dead_nodes(Circuit.from_edges(graph, edges))) == 3
    other = [*edges, "a0.h1->logits"]
    assert prune.drop_dead_nodes(Circuit.from_edges(graph, other)) == Circuit.from_edges(
        graph, edges
    )


# -- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def scores() -> Scores:
    graph = TensorGraph.from_model(architecture(1, 1))
    return Scores(graph, torch.arange(float(graph.n_edges)))


@pytest.mark.parametrize("pruner", [prune.top_n, prune.best_first])
def test_more_edges_than_there_are_or_fewer_than_none_are_refused(scores, pruner):
    with pytest.raises(GraphError, match="9 edges asked for, the graph has 8: TensorGraph"):
        pruner(scores, 9)
    with pytest.raises(GraphError, match="-1 edges asked for: give 0 or more"):
        pruner(scores, -1)
    with pytest.raises(GraphError, match="3 writers asked for, the graph has 2"):
        prune.top_nodes(scores, 3)


def test_an_unknown_order_and_scores_without_a_rank_are_refused(scores):
    values = scores.values.clone()
    values[[3, 5]] = float("nan")
    calls = [
        lambda s, by: prune.top_n(s, 1, by=by),
        lambda s, by: prune.best_first(s, 1, by=by),
        lambda s, by: prune.threshold(s, 1, by=by),
        lambda s, by: prune.cumulative_influence(s, 1, by=by),
        lambda s, by: prune.top_nodes(s, 1, by=by),
    ]
    for call in calls:
        with pytest.raises(GraphError, match="'size': one of 'abs', 'help', 'hurt'"):
            call(scores, "size")
        with pytest.raises(NumericalError, match=r"2 scores are not numbers.*'input->m0'"):
            call(Scores(scores.graph, values), "abs")


def test_pruning_changes_no_argument(scores):
    before = scores.values.clone()
    for circuit in (prune.top_n(scores, 3), prune.best_first(scores, 3)):
        prune.drop_dead_nodes(circuit)
        assert len(circuit) == 3
    assert torch.equal(scores.values, before)
