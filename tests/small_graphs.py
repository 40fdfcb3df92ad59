"""Attribution graphs small enough to check by hand, and random ones of any size."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import strategies as st

from sae_circuits.graph import AttributionGraph, Node, Provenance, parse_edge, parse_node

EDGES = {
    "input@0->m0.f3@0": 2.0,
    "m0.f3@0->m1.f17@2": 1.5,
    "input@2->m0.f7@2": 1.0,
    "m0.f7@2->m1.f17@2": -0.5,
    "m0.error@1->m1.f17@2": 0.25,
    "m1.f17@2->logits.t5@2": 4.0,
    "m1.f17@2->logits.t9@2": -1.0,
    "m1.error@2->logits.t5@2": 0.75,
    "input@2->logits.t9@2": 0.5,
}
INFLUENCE = {
    "input@0": 0.5, "input@1": 0.0, "input@2": 0.25, "m0.f3@0": 0.75, "m0.error@1": 0.125,
    "m0.f7@2": 0.25, "m1.f17@2": 1.0, "m1.error@2": 0.125, "logits.t5@2": 0.75, "logits.t9@2": 0.25,
}  # fmt: skip


def traced() -> AttributionGraph:
    """Ten nodes and nine edges of two layers, on three tokens."""
    nodes = tuple(map(parse_node, INFLUENCE))
    index = {node: i for i, node in enumerate(nodes)}
    ends = [parse_edge(name) for name in EDGES]
    return AttributionGraph(
        tokens=(3, 8, 4),
        text=("Mary", " and", " John"),
        nodes=nodes,
        activation=torch.tensor([1, 1, 1, 2.5, 1, 0.5, 3, 1, 0.75, 0.125]),
        influence=torch.tensor(list(INFLUENCE.values())),
        src=torch.tensor([index[edge.src] for edge in ends]),
        dest=torch.tensor([index[edge.dest] for edge in ends]),
        weight=torch.tensor(list(EDGES.values())),
        n_active=40,
        replacement=0.625,
        completeness=0.875,
        provenance=Provenance(
            method="trace", model="toy", options={"node_share": 0.8, "edge_share": 0.98}
        ),
        predicted=(" gave", " said"),
    )


def random_traced(
    n_layers: int, n_tokens: int, n_features: int, *, seed: int = 0, n_edges: int = 3
) -> AttributionGraph:
    """A few features at each position of each layer, with some edges into each."""
    generator = torch.Generator().manual_seed(seed)

    def below(n: int) -> int:
        return int(torch.randint(n, (1,), generator=generator))

    features = {
        Node("feature", below(n_layers), below(16384), site="m", pos=below(n_tokens))
        for _ in range(n_features)
    }
    errors = {
        Node("error", below(n_layers), site="m", pos=below(n_tokens))
        for _ in range(n_features // 5)
    }
    inner = sorted(
        features | errors,
        key=lambda n: (n.layer or 0, n.pos or 0, n.kind == "error", n.index or 0),
    )
    tokens = [Node("input", pos=p) for p in range(n_tokens)]
    logits = [Node("logits", index=i, pos=n_tokens - 1) for i in range(3)]
    nodes = (*tokens, *inner, *logits)
    pairs = set()
    for dest, node in enumerate(nodes):
        if node.kind in ("input", "error"):
            continue
        layer = n_layers if node.layer is None else node.layer
        seen = [
            i for i, other in enumerate(nodes[: n_tokens + len(inner)])
            if (-1 if other.layer is None else other.layer) < layer
            and (other.pos or 0) <= (node.pos or 0)
        ]  # fmt: skip
        pairs |= {(seen[below(len(seen))], dest) for _ in range(n_edges)}
    valued = torch.tensor([node.kind in ("feature", "logits") for node in nodes])
    src, dest = (torch.tensor(ends, dtype=torch.int64) for ends in zip(*sorted(pairs), strict=True))
    return AttributionGraph(
        tokens=tuple(range(n_tokens)),
        text=tuple(f" word{i}" for i in range(n_tokens)),
        nodes=nodes,
        activation=torch.where(valued, torch.rand(len(nodes), generator=generator), 1.0),
        influence=torch.rand(len(nodes), generator=generator),
        src=src,
        dest=dest,
        weight=torch.randn(len(src), generator=generator),
        n_active=10 * len(nodes),
        replacement=0.5,
        completeness=0.75,
    )


@st.composite
def traced_graphs(draw: st.DrawFn) -> AttributionGraph:
    """Graphs of odd texts, dtypes and numbers."""
    n_tokens = draw(st.integers(1, 4))
    graph = random_traced(
        draw(st.integers(1, 3)), n_tokens, draw(st.integers(0, 8)), seed=draw(st.integers(0, 999))
    )
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    some = draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5))
    count = len(graph.weight)
    return replace(
        graph,
        tokens=tuple(draw(st.lists(st.integers(0, 99), min_size=n_tokens, max_size=n_tokens))),
        text=tuple(draw(st.lists(st.text(max_size=4), min_size=n_tokens, max_size=n_tokens))),
        activation=graph.activation.to(dtype),
        influence=graph.influence.double(),
        weight=torch.tensor((some * count)[:count], dtype=dtype),
        predicted=tuple(draw(st.lists(st.text(max_size=4), min_size=3, max_size=3))),
        provenance=Provenance(method="trace", options={"node_share": draw(st.floats(0, 1))}),
    )


def assert_same_graph(a: AttributionGraph, b: AttributionGraph) -> None:
    for name in ("tokens", "text", "nodes", "n_active", "provenance", "predicted"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("activation", "influence", "src", "dest", "weight"):
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype
        assert torch.allclose(one, other, rtol=0, atol=0, equal_nan=True), name
    assert (repr(a.replacement), repr(a.completeness)) == (
        repr(b.replacement),
        repr(b.completeness),
    )
