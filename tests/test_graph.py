"""Names, ids, sets and shapes of the graph, against rules written out by hand."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import RANDOM, architecture, circuits, graphs, scored
from sae_circuits.errors import GraphError, UnsupportedModel
from sae_circuits.graph import (
    Architecture,
    Circuit,
    Edge,
    Node,
    Scores,
    TensorGraph,
    parse_edge,
    parse_node,
)
from sae_circuits.graph.networks import from_networkx

pytestmark = pytest.mark.filterwarnings(f"ignore:{RANDOM}")

index = st.integers(0, 10**6)
pos = st.none() | st.integers(0, 10**4)
site = st.sampled_from(["a", "m", "pre", "mid", "post"])
rest = st.sampled_from(["error", "skip"])
nodes = st.one_of(
    st.builds(Node, st.just("input"), pos=pos),
    st.builds(Node, st.just("logits"), index=st.none() | index, pos=pos),
    st.builds(Node, st.just("mlp"), index, pos=pos),
    st.builds(Node, st.just("head"), index, index, st.sampled_from([None, *"qkv"]), pos=pos),
    st.builds(Node, st.just("kv"), index, index, st.sampled_from(["k", "v"]), pos=pos),
    st.builds(Node, st.just("feature"), index, index, site=site, pos=pos),
    st.builds(Node, rest, index, site=site, pos=pos),
)

# -- the grammar ---------------------------------------------------------------------------------


@given(nodes)
def test_a_nodes_name_parses_back(node):
    assert parse_node(node.name) == node
    assert str(node) == node.name


@given(nodes, nodes)
def test_an_edges_name_parses_back(src, dest):
    edge = Edge(src, dest)
    assert parse_edge(edge.name) == edge
    assert parse_edge(f" {src} -> {dest} ") == edge


@given(st.text(alphabet="inputlogsmahkvrefd0123456789.<>q-@", max_size=12))
def test_every_name_that_parses_is_the_name_of_what_it_parses_to(text):
    with contextlib.suppress(GraphError):
        assert parse_node(text).name == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m01",
        "m-1",
        "a0",
        "a0.h",
        "a0.h1<z>",
        "a0.kv1",
        "a0.kv1<q>",
        "input ",
        "M0",
        "m0\n",
        "m3.f",
        "m3.f01",
        "post.f1",
        "mid2.h1",
        "m3.errors",
        "a1.h0@",
        "logits.f3",
    ],
)
def test_what_is_no_node_is_refused_by_its_text(text):
    with pytest.raises(GraphError) as error:
        parse_node(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["m0", "m0->", "->m0", "m0->m1->m2", "m0-m1"])
def test_what_is_no_edge_is_refused(text):
    with pytest.raises(GraphError):
        parse_edge(text)


def test_nodes_are_values_in_the_fields_own_spelling():
    names = ["input", "a9.h6", "a9.h6<q>", "a3.kv1<k>", "m3", "logits"]
    names += ["m3.f17", "a3.error", "post0.f2@5", "m1.skip", "logits.t42@7", "input@0"]
    assert [parse_node(n).name for n in names] == names
    assert parse_node("a9.h6<q>").component == parse_node("a9.h6")
    assert parse_node("m3").component == parse_node("m3")
    assert len({parse_node("m3"), Node("mlp", 3)}) == 1


# -- edges by the rule ---------------------------------------------------------------------------


def depth(node: Node, arch: Architecture) -> int:
    """Where a node stands in the forward pass, written out for one layer at a time."""
    if node.kind == "input":
        return -1
    if node.kind == "logits":
        return 10**9
    return 2 * node.layer + (1 if node.kind == "mlp" and not arch.parallel else 0)


def edges_by_rule(arch: Architecture, *, split_kv: bool) -> set[str]:
    """Every edge of an architecture, from loops over layers and heads."""
    writers, readers = [Node("input")], [Node("logits")]
    grouped = arch.n_kv_heads < arch.n_heads and not split_kv
    for layer in range(arch.n_layers):
        for head in range(arch.n_heads):
            writers.append(Node("head", layer, head))
            readers.append(Node("head", layer, head, "q"))
            if not grouped:
                readers += [Node("head", layer, head, port) for port in ("k", "v")]
        if grouped:
            readers += [
                Node("kv", layer, i, port) for i in range(arch.n_kv_heads) for port in ("k", "v")
            ]
        if arch.has_mlps:
            writers.append(Node("mlp", layer))
            readers.append(Node("mlp", layer))
    return {Edge(w, r).name for w in writers for r in readers if depth(w, arch) < depth(r, arch)}


@given(graphs())
def test_edges_are_those_of_the_rule_and_ids_count_them(graph):
    names = [edge.name for edge in graph.edges]
    assert len(names) == len(set(names)) == graph.n_edges
    assert set(names) == edges_by_rule(graph.architecture, split_kv=_reads_per_head(graph))
    assert [graph.edge_id(name) for name in names] == list(range(graph.n_edges))
    assert [graph.edges[i].name for i in range(graph.n_edges)] == names


def _reads_per_head(graph: TensorGraph) -> bool:
    return not any(block.kind == "kv" for block in graph.readers)


@pytest.mark.parametrize(
    ("arch", "n_edges"),
    [
        # sequential: layer 0 reads 1 (MLP: 1 + heads), layer 1 reads 1 + heads + 1, and so on
        (architecture(2, 2), 6 * 1 + 3 + 6 * 4 + 6 + 7),
        (architecture(2, 2, parallel=True), 6 * 1 + 1 + 6 * 4 + 4 + 7),
        (architecture(2, 2, has_mlps=False), 6 * 1 + 6 * 3 + 5),
        (architecture(2, 4, 2), 8 * 1 + 5 + 8 * 6 + 10 + 11),
    ],
    ids=["sequential", "parallel", "attention-only", "grouped"],
)
def test_edge_counts_by_hand(arch, n_edges):
    assert TensorGraph.from_model(arch).n_edges == n_edges


def test_gpt2_small_has_the_fields_number_of_edges():
    assert TensorGraph.from_model(architecture(12, 12)).n_edges == 32_491


@given(graphs())
def test_writers_and_readers_are_sorted_by_depth(graph):
    assert (graph.src_depth.diff() >= 0).all()
    assert (graph.dest_depth.diff() >= 0).all()
    assert len(graph.src_nodes) == graph.n_src == len(graph.src_depth)
    assert len(graph.dest_nodes) == graph.n_dest == len(graph.dest_depth)


@given(graphs())
def test_readers_of_a_writer_are_those_of_its_component(graph):
    group = graph.architecture.n_heads // graph.architecture.n_kv_heads
    for node, readers in zip(graph.src_nodes, graph.readers_of, strict=True):
        expected = {
            i
            for i, reader in enumerate(graph.dest_nodes)
            if reader.component == node
            or (
                reader.kind == "kv"
                and node.kind == "head"
                and (reader.layer, reader.index) == (node.layer, node.index // group)
            )
        }
        assert set(readers) == expected
        assert len(readers) == len(expected)


# -- dense and flat ------------------------------------------------------------------------------


@given(scored())
def test_dense_puts_each_score_at_its_ends_and_flat_takes_it_back(scores):
    graph, matrix = scores.graph, scores.dense()
    src, dest = graph.ends(torch.arange(graph.n_edges))
    assert torch.equal(matrix[src, dest], scores.values)
    assert torch.equal(graph.flat(matrix), scores.values)
    assert int(graph.dense(torch.ones(graph.n_edges, dtype=torch.bool), fill=False).sum()) == len(
        src
    )
    marked = graph.dense(scores.values, fill=7.5)
    assert int((marked == 7.5).sum()) == graph.n_src * graph.n_dest - graph.n_edges


@given(scored())
def test_sums_by_source_and_by_destination_are_sums_of_edges(scores):
    by_source, by_dest = dict.fromkeys(scores.graph.src_nodes, 0.0), {}
    for edge, value in zip(scores.graph.edges, scores.values.tolist(), strict=True):
        by_source[edge.src] += value
        by_dest[edge.dest] = by_dest.get(edge.dest, 0.0) + value
    assert scores.by_source() == pytest.approx(by_source)
    assert scores.by_destination() == pytest.approx(by_dest)


# -- scores --------------------------------------------------------------------------------------


@given(scored())
def test_scores_add_and_scale(scores):
    values = scores.values
    assert torch.equal((scores + scores).values, 2 * values)
    assert torch.equal((scores - scores).values, torch.zeros_like(values))
    assert torch.equal((-scores).values, -values)
    torch.testing.assert_close((scores / 4).values, values / 4)
    assert scores[scores.graph.edges[0]] == float(values[0])


@given(scored(), st.sampled_from(["abs", "help", "hurt"]))
def test_order_is_a_stable_sort(scores, by):
    key = {"abs": abs, "help": lambda x: -x, "hurt": lambda x: x}[by]
    values = scores.values.tolist()
    expected = sorted(range(len(values)), key=lambda i: -key(values[i]))
    assert scores.order(by=by).tolist() == expected
    assert scores.top(3, by=by) == [(scores.graph.edges[i].name, values[i]) for i in expected[:3]]


def test_scores_of_another_size_order_or_graph_are_refused():
    graph = TensorGraph.from_model(architecture())
    other = TensorGraph.from_model(architecture(parallel=True))
    scores = Scores(graph, torch.zeros(graph.n_edges))
    with pytest.raises(GraphError, match="one per edge"):
        Scores(graph, torch.zeros(3))
    with pytest.raises(GraphError, match=r"'size'.*'abs', 'help', 'hurt'"):
        scores.order(by="size")
    with pytest.raises(GraphError, match="another graph"):
        scores + Scores(other, torch.zeros(other.n_edges))


def test_scores_to_pandas_has_a_row_per_edge():
    graph = TensorGraph.from_model(architecture(1, 2, 1))
    table = Scores(graph, torch.arange(float(graph.n_edges))).to_pandas()
    assert list(table.columns) == ["src", "dest", "score"]
    assert (table.src + "->" + table.dest).tolist() == [edge.name for edge in graph.edges]
    assert table.score.tolist() == list(range(graph.n_edges))


# -- sets of edges -------------------------------------------------------------------------------


@given(st.data())
def test_circuits_obey_the_laws_of_sets(data):
    graph = data.draw(graphs())
    a, b, c = (data.draw(circuits(graph)) for _ in range(3))
    full, empty = Circuit.full(graph), Circuit.empty(graph)
    names = [{edge.name for edge in x.edges} for x in (a, b)]
    assert {edge.name for edge in (a | b).edges} == names[0] | names[1]
    assert {edge.name for edge in (a & b).edges} == names[0] & names[1]
    assert {edge.name for edge in (a - b).edges} == names[0] - names[1]
    assert (a <= b) == (names[0] <= names[1])
    assert (a < b) == (names[0] < names[1])
    assert (a == b) == (names[0] == names[1])
    assert ~(a | b) == ~a & ~b
    assert ~~a == a
    assert a & (b | c) == (a & b) | (a & c)
    assert a - b == a & ~b
    assert a | ~a == full
    assert a & ~a == empty
    assert empty <= a <= full
    assert len(a) == len(names[0]) == len(a.edges)
    assert a.fraction == len(a) / graph.n_edges
    assert hash(a) == hash(a.with_mask(a.mask.clone()))


@given(circuits())
def test_a_circuit_is_its_edges_by_value_or_by_name(circuit):
    graph = circuit.graph
    assert Circuit.from_edges(graph, list(circuit.edges)) == circuit
    assert Circuit.from_edges(graph, [edge.name for edge in circuit.edges]) == circuit
    inside = {edge.name for edge in circuit.edges}
    assert all((edge in circuit) == (edge.name in inside) for edge in graph.edges)
    assert "not an edge" not in circuit


@given(circuits())
def test_the_nodes_of_a_circuit_are_the_components_at_its_edges_ends(circuit):
    ends = {n.component for edge in circuit.edges for n in (edge.src, edge.dest)}
    assert set(circuit.nodes) == ends
    order = {node: i for i, node in enumerate(circuit.graph.nodes)}
    assert list(circuit.nodes) == sorted(ends, key=order.__getitem__)


def test_circuits_of_another_graph_and_masks_of_another_size_are_refused():
    graph = TensorGraph.from_model(architecture())
    other = TensorGraph.from_model(architecture(has_mlps=False))
    with pytest.raises(GraphError, match="the other circuit belongs to another graph"):
        Circuit.full(graph) & Circuit.full(other)
    with pytest.raises(GraphError, match=r"a mask of \(3,\) does not fit"):
        Circuit(graph, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(GraphError, match=r"the scores belongs? to another graph"):
        Circuit(graph, Circuit.full(graph).mask, Scores(other, torch.zeros(other.n_edges)))


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ("m7->logits", "'m7' does not write in TensorGraph"),
        ("logits->m0", "'logits' does not write in .*, it only reads"),
        ("a0.h1<q>->m0", "it only reads"),
        ("input->a0.h1", "'a0.h1' does not read in .*: name its port"),
        ("m1->m0", "m0 comes no later than m1"),
        ("a0.h0->a0.h1<q>", "a0.h1<q> comes no later than a0.h0"),
    ],
)
def test_an_edge_that_the_graph_lacks_is_refused_with_the_reason(edge, message):
    graph = TensorGraph.from_model(architecture())
    with pytest.raises(GraphError, match=message):
        graph.edge_id(edge)
    with pytest.raises(GraphError, match=message):
        Circuit.from_edges(graph, [edge])
    assert edge not in graph.edges


# -- lazy edges ----------------------------------------------------------------------------------


@given(circuits(), st.data())
def test_edges_are_a_sequence(circuit, data):
    edges, listed = circuit.edges, list(circuit.edges)
    cut = data.draw(st.slices(max(len(listed), 1)))
    assert list(edges[cut]) == listed[cut]
    assert list(edges[cut][::-1]) == listed[cut][::-1]
    assert edges == listed
    if listed:
        assert edges[-1] == listed[-1]
        assert edges.index(listed[-1]) == len(listed) - 1
    with pytest.raises(IndexError, match=f"edge {len(listed)} of {len(listed)}"):
        edges[len(listed)]


def test_gpt2_xl_is_described_without_an_object_for_each_edge():
    tracemalloc.start()
    graph = TensorGraph.from_model(architecture(48, 25))
    assert graph.n_edges == 2_235_025
    assert graph.edges[graph.n_edges - 1].name == "m47->logits"
    assert graph.edge_id("a47.h24->logits") == graph.n_edges - 2
    assert graph.edges[10**6 : 10**6 + 3][0] == graph.edges[10**6]
    assert repr(graph.edges).endswith("2,235,025 edges)")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6  # bytes of Python objects; one for each edge would take hundreds of MB


# -- subgraphs -----------------------------------------------------------------------------------


@given(graphs(), st.data())
def test_a_subgraph_has_the_edges_between_its_nodes(graph, data):
    kept = data.draw(st.sets(st.sampled_from(graph.nodes), min_size=1))
    part = graph.subgraph(kept)
    expected = [e.name for e in graph.edges if {e.src.component, e.dest.component} <= kept]
    assert [edge.name for edge in part.edges] == expected
    assert [part.edge_id(name) for name in expected] == list(range(len(expected)))


@given(scored(), st.data())
def test_scores_and_circuits_move_between_a_graph_and_its_parts(scores, data):
    graph = scores.graph
    kept = data.draw(st.sets(st.sampled_from(graph.nodes), min_size=1))
    part = graph.subgraph(kept)
    of_part = scores.on(part)
    assert all(of_part[edge] == scores[edge] for edge in part.edges)
    assert [e.name for e in Circuit.full(part).on(graph).edges] == [e.name for e in part.edges]


def test_a_subgraph_may_keep_one_port_and_refuses_strangers():
    graph = TensorGraph.from_model(architecture())
    part = graph.subgraph(["input", "a1.h0<q>", "m0"])
    assert [e.name for e in part.edges] == ["input->m0", "input->a1.h0<q>", "m0->a1.h0<q>"]
    with pytest.raises(GraphError, match="'m9' is not a node of TensorGraph"):
        graph.subgraph(["input", "m9"])
    with pytest.raises(GraphError, match=r"'a1.h0->logits'.*does not write"):
        part.edge_id("a1.h0->logits")


# -- networkx ------------------------------------------------------------------------------------


@given(circuits())
def test_networkx_and_back(circuit):
    network = circuit.to_networkx()
    assert network.number_of_edges() == len(circuit)
    assert set(network.nodes) == {node.name for node in circuit.nodes}
    assert from_networkx(circuit.graph, network) == circuit


def test_networkx_carries_kind_layer_port_and_score():
    graph = TensorGraph.from_model(architecture(1, 2, 1))
    scores = Scores(graph, torch.arange(float(graph.n_edges)))
    network = Circuit(graph, Circuit.full(graph).mask, scores).to_networkx()
    assert network.nodes["m0"] == {"kind": "mlp", "layer": 0}
    edge = "input->a0.kv0<k>"
    data = network.edges["input", "a0.kv0", edge]
    assert data == {"port": "k", "score": scores[edge]}
    assert graph.to_networkx().number_of_edges() == graph.n_edges


def test_a_network_with_other_keys_is_refused():
    graph = TensorGraph.from_model(architecture(1))
    network = graph.to_networkx()
    network.add_edge("input", "m0", key=3)
    with pytest.raises(GraphError, match="edge key 3 is not an edge's name"):
        from_networkx(graph, network)


# -- architectures -------------------------------------------------------------------------------


def test_graphs_are_the_same_where_their_nodes_are():
    one, other = (TensorGraph.from_model(architecture(2, 4, k)) for k in (4, 2))
    assert one.same_as(TensorGraph.from_model(architecture(2, 4)))
    assert not one.same_as(other)
    assert TensorGraph.from_model(architecture(2, 4, 2), split_kv=True).n_edges == one.n_edges
    with pytest.raises(GraphError, match="it belongs to another graph"):
        one.require_same(other, "it")


def test_an_object_without_a_configuration_is_refused():
    with pytest.raises(UnsupportedModel, match="int has no TransformerLens configuration"):
        TensorGraph.from_model(3)
