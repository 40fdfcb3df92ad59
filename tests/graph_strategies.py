"""Random small graphs, scores and circuits for property tests."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st

from sae_circuits.graph import Architecture, Circuit, Scores, TensorGraph

# Shape checks make calls slow on first use; time limits per example would fail at random.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

RANDOM = "Do not use the `random` module"  # the run-time type checker does, to sample containers


def architecture(
    n_layers=2, n_heads=2, n_kv_heads=None, *, parallel=False, has_mlps=True
) -> Architecture:
    return Architecture(
        model="tiny",
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads or n_heads,
        d_model=8,
        d_head=4,
        d_vocab=10,
        n_ctx=16,
        parallel=parallel,
        has_mlps=has_mlps,
    )


@st.composite
def graphs(draw: st.DrawFn) -> TensorGraph:
    n_heads = draw(st.integers(1, 4))
    has_mlps = draw(st.booleans())
    made = architecture(
        draw(st.integers(1, 3)),
        n_heads,
        draw(st.sampled_from([k for k in range(1, n_heads + 1) if n_heads % k == 0])),
        parallel=has_mlps and draw(st.booleans()),
        has_mlps=has_mlps,
    )
    return TensorGraph.from_model(made, split_kv=draw(st.booleans()))


@st.composite
def scored(draw: st.DrawFn) -> Scores:
    """Scores with many ties: a few distinct values only, or all distinct."""
    graph = draw(graphs())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    if draw(st.booleans()):
        values = torch.randint(-2, 3, (graph.n_edges,), generator=generator).double()
    else:
        values = torch.randn(graph.n_edges, generator=generator, dtype=torch.float64)
    return Scores(graph, values)


@st.composite
def circuits(draw: st.DrawFn, graph: TensorGraph | None = None) -> Circuit:
    graph = draw(graphs()) if graph is None else graph
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    density = draw(st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]))
    return Circuit(graph, torch.rand(graph.n_edges, generator=generator) < density)
