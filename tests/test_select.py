"""Circuits by integer program, against all circuits of small graphs."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_strategies import RANDOM, architecture
from sae_circuits import prune
from sae_circuits.errors import GraphError, NoSolution, NumericalError, OptionError
from sae_circuits.graph import Circuit, Node, Scores, TensorGraph

pytestmark = pytest.mark.filterwarnings(f"ignore:{RANDOM}")

SHAPES = {
    "one layer": {"n_layers": 1, "n_heads": 1},  # 8 edges
    "parallel": {"n_layers": 1, "n_heads": 1, "parallel": True},
    "two heads": {"n_layers": 1, "n_heads": 2, "has_mlps": False},
    "shared": {"n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "has_mlps": False},
    "two layers": {"n_layers": 2, "n_heads": 1, "has_mlps": False},  # 12 edges
}


@cache
def graph_of(shape: str) -> TensorGraph:
    return TensorGraph.from_model(architecture(**SHAPES[shape]))


def paths(graph: TensorGraph) -> list[int]:
    """Every path from the input to the logits, as the bits of its edges, by walking along."""
    share = graph.architecture.n_heads // graph.architecture.n_kv_heads
    edges = list(enumerate(graph.edges))

    def leads_to(dest: Node, src: Node) -> bool:
        if dest.kind == "kv":
            return src.kind == "head" and (src.layer, src.index // share) == (
                dest.layer,
                dest.index,
            )
        return dest.component == src

    def onwards(i, edge):
        if edge.dest.kind == "logits":
            return [1 << i]
        return [
            1 << i | rest
            for j, following in edges
            if leads_to(edge.dest, following.src)
            for rest in onwards(j, following)
        ]

    return [path for i, edge in edges if edge.src.kind == "input" for path in onwards(i, edge)]


@cache
def circuits(shape: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Every set of edges of a graph, and which of them are made of paths."""
    graph = graph_of(shape)
    every = range(2**graph.n_edges)
    whole = []
    for mask in every:
        union = 0
        for path in paths_of(shape):
            union |= path if path & mask == path else 0
        whole.append(union == mask)
    bits = torch.tensor([[mask >> i & 1 for i in range(graph.n_edges)] for mask in every])
    return bits.bool(), torch.tensor(whole)


@cache
def paths_of(shape: str) -> list[int]:
    return paths(graph_of(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_lies_on_paths_is_what_dead_nodes_leave(shape):
    graph = graph_of(shape)
    masks, whole = circuits(shape)
    for i in range(0, len(masks), max(1, len(masks) // 200)):
        circuit = Circuit(graph, masks[i])
        assert (prune.drop_dead_nodes(circuit) == circuit) == bool(whole[i])


@settings(max_examples=80)
@given(
    st.sampled_from(list(SHAPES)),
    st.integers(0, 2**31),
    st.booleans(),
    st.sampled_from(["abs", "help", "hurt"]),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 2 / 3, 1.0]),
    st.data(),
)
def test_no_circuit_that_satisfies_the_constraints_counts_more(
    shape, seed, ties, by, connected, help_share, data
):
    graph = graph_of(shape)
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(graph.n_edges, generator=generator, dtype=torch.float64)
    if ties:
        values = torch.randint(-2, 3, (graph.n_edges,), generator=generator).double()
    scores = Scores(graph, 10.0 ** data.draw(st.integers(-6, 6)) * values)
    n = data.draw(st.integers(0, graph.n_edges))
    at_least = data.draw(st.integers(0, n))
    masks, whole = circuits(shape)
    count, helping = masks.sum(1), (masks & (scores.values < 0)).sum(1)
    fits = (at_least <= count) & (count <= n) & (helping >= help_share * count - 1e-9)
    fits &= whole | torch.tensor(not connected)
    gain = {"abs": scores.values.abs(), "help": -scores.values, "hurt": scores.values}[by]
    options = {
        "by": by, "connected": connected, "help_share": help_share, "at_least": at_least
    }  # fmt: skip
    if not bool(fits.any()):
        with pytest.raises(NoSolution, match=f"has {at_least} to {n} edges"):
            prune.select(scores, n, **options)
        return
    found = prune.select(scores, n, **options)
    place = int((found.mask.long() << torch.arange(graph.n_edges)).sum())
    assert bool(fits[place])
    best = float((masks.double() @ gain)[fits].max())
    assert float(gain[found.mask].sum()) == pytest.approx(
        best, rel=1e-8, abs=1e-9 * float(gain.abs().max())
    )
    assert found.scores is scores


def scored(shape=(3, 4), seed=0, **options) -> Scores:
    graph = TensorGraph.from_model(architecture(*shape, **options))
    generator = torch.Generator().manual_seed(seed)
    return Scores(graph, torch.randn(graph.n_edges, generator=generator, dtype=torch.float64) ** 3)


@pytest.mark.parametrize("by", ["abs", "help"])
@pytest.mark.parametrize("kv", [4, 2])
def test_it_never_counts_less_than_growth_or_the_largest(by, kv):
    scores = scored(n_kv_heads=kv)
    gain = scores.values.abs() if by == "abs" else -scores.values
    better = 0
    for n in (4, 9, 20, 60):
        best = prune.select(scores, n, by=by)
        assert len(best) <= n
        assert prune.drop_dead_nodes(best) == best
        for pruner in (prune.best_first, prune.top_n):
            other = prune.drop_dead_nodes(pruner(scores, n, by=by))
            margin = float(gain[best.mask].sum() - gain[other.mask].sum())
            assert margin > -1e-9
            better += margin > 1e-6
    assert better  # on some it is better by far more than rounding


def test_without_constraints_it_is_top_n():
    scores = scored()
    assert prune.select(scores, 17, connected=False) == prune.top_n(scores, 17)
    helping = prune.select(scores, scores.graph.n_edges, by="help", connected=False)
    assert torch.equal(helping.mask, scores.values < 0)


def test_a_share_of_edges_that_help():
    scores = scored()
    for share in (0.5, 0.75, 1.0):
        chosen = prune.select(scores, 30, help_share=share, at_least=30)
        assert len(chosen) == 30
        assert float((scores.values[chosen.mask] < 0).double().mean()) >= share
    free = prune.select(scores, 30)
    assert float((scores.values[free.mask] < 0).double().mean()) < 0.75  # the share did bind


def test_it_takes_a_detour_that_greedy_growth_does_not_see():
    """best_first starts at the largest edge into the logits; the best pair ends in another."""
    graph = graph_of("one layer")
    values = torch.zeros(8, dtype=torch.float64)
    for edge, value in {"input->m0": 5.0, "m0->logits": 1.0, "a0.h0->logits": 2.0}.items():
        values[graph.edge_id(edge)] = value
    scores = Scores(graph, values)
    assert {e.name for e in prune.select(scores, 2).edges} == {"input->m0", "m0->logits"}
    assert "a0.h0->logits" in prune.best_first(scores, 2)


def test_pruner_of_a_curve_and_of_nothing():
    scores = scored()
    assert len(prune.select(scores, 0)) == 0
    assert len(prune.select(0 * scores, 3)) >= 1
    narrow = Scores(scores.graph, scores.values.to(torch.bfloat16))
    assert len(prune.select(narrow, 10, at_least=10)) == 10


def test_a_graph_without_a_path_has_no_connected_circuit():
    graph = TensorGraph.from_model(architecture(2, 1)).subgraph(["input", "m0", "a1.h0"])
    scores = Scores(graph, torch.ones(graph.n_edges))
    with pytest.raises(NoSolution, match=r"has 1 to 2 edges on paths from the input to the logits"):
        prune.select(scores, 2)
    hurting = scored(shape=(1, 1))
    hurting = Scores(hurting.graph, hurting.values.abs())
    with pytest.raises(NoSolution, match=r"1 to 5 edges .*, 50% of them helping: allow more edges"):
        prune.select(hurting, 5, help_share=0.5)


def test_a_solver_out_of_time_says_how_far_it_got():
    scores = scored(shape=(6, 8))
    with pytest.raises(
        NoSolution, match=r"1e-06 seconds gave .* a gap of 0.00% is asked for: raise"
    ):
        prune.select(scores, 40, time_limit=1e-6)


def test_a_gap_is_kept():
    scores = scored(shape=(4, 6))
    gain = scores.values.abs()
    exact = float(gain[prune.select(scores, 25).mask].sum())
    near = float(gain[prune.select(scores, 25, gap=0.1).mask].sum())
    assert exact - 0.1 * exact <= near <= exact + 1e-9


def test_what_is_out_of_range_is_refused():
    scores = scored(shape=(1, 1))
    nan = Scores(scores.graph, scores.values.where(scores.values > 0, float("nan")))
    for call, error, message in [
        (lambda: prune.select(scores, 9), GraphError, "9 edges asked for, the graph has 8"),
        (lambda: prune.select(scores, -1), GraphError, "-1 edges asked for"),
        (lambda: prune.select(scores, 3, by="size"), GraphError, "cannot order by 'size'"),
        (lambda: prune.select(nan, 3), NumericalError, "scores are not numbers"),
        (lambda: prune.select(scores, 3, at_least=4), OptionError, "at_least=4 with n=3"),
        (lambda: prune.select(scores, 3, help_share=80), OptionError, "help_share=80: a share"),
        (lambda: prune.select(scores, 3, gap=1), OptionError, "gap=1: a share"),
        (lambda: prune.select(scores, 3, time_limit=0), OptionError, "time_limit=0: seconds"),
    ]:
        with pytest.raises(error, match=message):
            call()
