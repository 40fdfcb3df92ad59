"""Scores of pairs of features: against the dense kernel on the same graph."""

from __future__ import annotations

import math
import tracemalloc

import pytest
import torch

import sae_circuits.attribution.pair_kernel as pair_kernel
import sae_circuits.attribution.sparse as sparse
from sae_circuits.attribution import Method, along_embedding, attribute, attribute_pairs
from sae_circuits.attribution.pair_kernel import sum_equal
from sae_circuits.errors import FileFormatError, GraphError, NumericalError, OptionError
from sae_circuits.graph import PairScores, Scores, TensorGraph
from sae_circuits.io import load, save
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.gates import Threshold
from shapes import HOOKED, hooked, random_task
from small_dictionaries import dictionary

# What dictionaries a graph has: (what is read, layer, options) each.
SETS = {
    "stream": [
        ("resid_pre", 0, {}),
        ("resid_mid", 0, {"gate": "topk"}),
        ("resid_pre", 1, {"gate": "gated"}),
        ("resid_post", 1, {"gate": "abstopk"}),
    ],
    "transcoders": [
        ("mlp_in", 0, {"writes": "mlp_out", "skip": True}),
        ("mlp_normalized", 1, {"writes": "mlp_out", "gate": "topk"}),
        ("mlp_in", 2, {"writes": "mlp_out", "gate": "threshold"}),
    ],
    "mixed": [
        ("z", 0, {}),
        ("mlp_out", 0, {"gate": "threshold"}),
        ("attn_out", 1, {}),
        ("mlp_in", 1, {"writes": "mlp_out", "skip": True}),
        ("resid_post", 1, {"gate": "topk"}),
        ("resid_mid", 2, {"writes": "mlp_out", "skip": True, "gate": "threshold"}),
    ],
}
METHODS = {"eap": {}, "eap-ig": {"steps": 2}}
SHAPES = ("gpt2", "no-norm", "pythia", "gemma2")


def problem(shape, which, *, some=None, dtype=torch.float64, **task):
    model = hooked(
        shape,
        dtype=dtype,
        n_layers=3,
        **({"attn_types": ["local"] * 3} if shape == "gemma2" else {}),
    )
    parallel = model.cfg.parallel_attn_mlp
    saes = [
        dictionary(model, reads, layer, **options)
        for reads, layer, options in SETS[which]
        if not (parallel and reads == "resid_mid")
    ]
    graph = TensorGraph.from_model(model, saes=saes)
    if some is not None:
        graph = graph.restrict(
            [n for n in graph.src_nodes if n.kind == "feature" and n.index in some]
        )
    return model, graph, random_task(model, **{"lengths": [6, 4, 5], **task})


def between_features(graph):
    """Which edges lead from a feature to one that reads the stream."""
    writes = torch.tensor([n.kind == "feature" for n in graph.src_nodes])
    reads = torch.tensor(
        [
            n.kind == "feature" and graph.splits[n.site, n.layer].reads_stream
            for n in graph.dest_nodes
        ]
    )
    return graph.flat(writes[:, None] & reads)


def spread(pairs):
    """One value per edge of the graph, 0 where none is held."""
    assert bool((pairs.ids[1:] > pairs.ids[:-1]).all())
    return torch.zeros(pairs.graph.n_edges, dtype=pairs.values.dtype).index_copy(
        0, pairs.ids, pairs.values
    )


def assert_equal_where_features_meet(pairs, scores, rtol=1e-9, atol=1e-12):
    joined = between_features(scores.graph)
    assert not spread(pairs)[~joined].any()
    want = scores.values[joined]
    assert want.any()
    torch.testing.assert_close(spread(pairs)[joined], want, rtol=rtol, atol=atol)
    assert not want[spread(pairs)[joined] == 0].any()  # 0 here is 0 there


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_score_what_the_dense_kernel_scores(shape, which):
    model, graph, task = problem(shape, which)
    for method, options in METHODS.items():
        pairs = attribute_pairs(model, graph, task, method=method, **options)
        scores = attribute(model, graph, task, method=method, **options)
        assert_equal_where_features_meet(pairs, scores)
        assert pairs.provenance == scores.provenance
        assert pairs.is_whole


@pytest.mark.parametrize(
    ("method", "intervention"), [("eap", "zero"), ("clean-corrupted", "resample")]
)
@pytest.mark.parametrize("which", SETS)
def test_other_methods_and_interventions(which, method, intervention):
    model, graph, task = problem("gpt2", which, n=4, lengths=[6, 5, 6, 5])
    options = {"method": method, "intervention": intervention}
    pairs = attribute_pairs(model, graph, task, **options)
    assert_equal_where_features_meet(pairs, attribute(model, graph, task, **options))


@pytest.mark.parametrize("which", SETS)
def test_some_features_only(which):
    model, graph, task = problem("gpt2", which, some=(1, 2, 5))
    pairs = attribute_pairs(model, graph, task)
    assert_equal_where_features_meet(pairs, attribute(model, graph, task, method="eap"))


@pytest.mark.parametrize("which", SETS)
def test_many_points_lists_and_chunks_change_nothing(which, monkeypatch):
    model, graph, task = problem("gpt2", which)
    options = {"method": "eap-ig", "steps": 9}  # more than are multiplied at once elsewhere
    scores = attribute(model, graph, task, **options)
    monkeypatch.setattr(pair_kernel, "ENTRIES", {"cpu": 20, "other": 20})
    monkeypatch.setattr(sparse, "ENCODED_BYTES", 200)
    monkeypatch.setattr(sparse, "GATHERED_BYTES", 2000)
    assert_equal_where_features_meet(attribute_pairs(model, graph, task, **options), scores)


@pytest.mark.parametrize("which", SETS)
def test_in_float32_the_error_is_that_of_the_dense_kernel(which):
    exact = problem("gpt2", which)
    narrow = problem("gpt2", which, dtype=torch.float32)
    want = attribute(*exact, method="eap").values
    dense = attribute(*narrow, method="eap").values
    pairs = attribute_pairs(*narrow)
    assert pairs.values.dtype == torch.float32
    joined = between_features(exact[1])
    error = (spread(pairs).double() - want)[joined].abs().max()
    assert error < 2 * (dense.double() - want)[joined].abs().max() + 1e-7


@pytest.mark.parametrize("which", SETS)
def test_batches_padding_and_order_do_not_count(which):
    model, graph, task = problem("gpt2", which, n=5, lengths=[6, 4, 5, 6, 3])
    whole = attribute_pairs(model, graph, task, batch_size=5)
    for other in (task, task[[3, 1, 4, 0, 2]]):
        pairs = attribute_pairs(model, graph, other, batch_size=2)
        assert torch.equal(pairs.ids, whole.ids)
        torch.testing.assert_close(pairs.values, whole.values, rtol=1e-9, atol=1e-14)


def test_the_strongest_are_kept(monkeypatch):
    model, graph, task = problem("gpt2", "transcoders")
    whole = attribute_pairs(model, graph, task, method="eap")
    monkeypatch.setattr(pair_kernel, "ENTRIES", {"cpu": 20, "other": 20})
    size = whole.values.abs()
    for n in (1, 10, len(whole), 10**6):
        best = size.sort(descending=True, stable=True).indices[:n].sort().values
        for few in (whole.top_n(n), attribute_pairs(model, graph, task, keep=n)):
            assert torch.equal(few.ids, whole.ids[best])
            torch.testing.assert_close(few.values, whole.values[best])
    sizes, third = size.sort().values, len(size) // 3
    gap = third + int(sizes.diff()[third:-third].argmax())
    least = float(sizes[gap : gap + 2].mean())  # in a gap, which rounding does not close
    some = attribute_pairs(model, graph, task, at_least=least)
    assert torch.equal(some.ids, whole.ids[size >= least])
    assert dict(some.provenance.options) == {"at_least": least}
    assert not some.is_whole


def test_equal_scores_are_kept_by_id():
    _, graph, _ = problem("gpt2", "stream")
    pairs = PairScores(graph, torch.arange(6), torch.tensor([1.0, -2, 2, 1, -1, 0.5]))
    assert pairs.top_n(2).ids.tolist() == [1, 2]
    assert pairs.top_n(4).ids.tolist() == [0, 1, 2, 3]
    assert [value for _, value in pairs.top(4)] == [-2, 2, 1, 1]


def test_the_strongest_features_make_a_graph():
    model, graph, task = problem("gpt2", "transcoders")
    pairs = attribute_pairs(model, graph, task)
    best = pairs.features(4)
    ends = {end for name, _ in pairs.top(4) for end in name.split("->")}
    assert {node.name for node in best} == ends
    assert best[0].name == pairs.top(1)[0][0].split("->")[0]
    small = graph.restrict(best)
    scores = attribute(model, small, task, method="eap")
    for name, value in pairs.top(4):
        assert scores[name] == pytest.approx(value, rel=1e-9)


def test_pairs_are_read_by_name_and_as_a_table():
    model, graph, task = problem("gpt2", "transcoders")
    pairs = attribute_pairs(model, graph, task)
    scores = attribute(model, graph, task, method="eap")
    table = pairs.to_pandas()
    assert list(table.columns) == ["src", "dest", "score"]
    assert len(table) == len(pairs) == len(pairs.edges)
    for edge, src, dest, score in zip(pairs.edges, table.src, table.dest, table.score, strict=True):
        assert edge.name == f"{src}->{dest}"
        assert pairs[edge] == score == pytest.approx(scores[edge], rel=1e-9)
    unheld = torch.ones(graph.n_edges, dtype=torch.bool)
    unheld[pairs.ids] = False
    name = graph.edges[int((unheld & between_features(graph)).nonzero()[0])].name
    assert pairs[name] == 0
    with pytest.raises(GraphError, match="not among the 2 strongest"):
        _ = pairs.top_n(2)[name]
    with pytest.raises(GraphError, match=r"'m0\.error->logits' does not join two features"):
        _ = pairs["m0.error->logits"]


def test_what_it_says():
    model, graph, task = problem("gpt2", "transcoders")
    pairs = attribute_pairs(model, graph, task)
    assert repr(pairs) == f"PairScores(eap, random, logit_diff; {len(pairs)} edges, {graph!r})"
    assert repr(pairs.top_n(3)).startswith("PairScores(eap, random, logit_diff; 3 strongest edges")


def test_pairs_come_back_from_files(tmp_path):
    model, graph, task = problem("gpt2", "mixed")
    for pairs in (attribute_pairs(model, graph, task), attribute_pairs(model, graph, task, keep=3)):
        pairs.save(tmp_path / "pairs.safetensors")
        loaded = load(tmp_path / "pairs.safetensors", PairScores)
        assert torch.equal(loaded.ids, pairs.ids)
        assert torch.equal(loaded.values, pairs.values)
        assert loaded.provenance == pairs.provenance
        assert loaded.is_whole == pairs.is_whole
        assert not loaded.graph.saes
        again = loaded.with_saes(graph.saes)
        assert again.graph.same_as(graph)
        assert again.features(2) == pairs.features(2)
    data = bytearray((tmp_path / "pairs.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "pairs.safetensors").write_bytes(data)
    with pytest.raises(FileFormatError, match="checksum"):
        load(tmp_path / "pairs.safetensors")
    save(pairs, tmp_path / "pairs.safetensors")
    with pytest.raises(FileFormatError, match="holds pair_scores, and scores is needed"):
        load(tmp_path / "pairs.safetensors", Scores)


def test_what_has_no_scores_of_pairs_is_refused():
    model, graph, task = problem("gpt2", "stream")
    for method in ("exact", "random", "eap-ig-activations"):
        with pytest.raises(OptionError, match=f"'{method}' is not a rule over gradients"):
            attribute_pairs(model, graph, task, method=method)
    with pytest.raises(OptionError, match="under 'mean' every feature changes"):
        attribute_pairs(model, graph, task, intervention="mean")
    with pytest.raises(OptionError, match="keep=0: keep at least one"):
        attribute_pairs(model, graph, task, keep=0)
    with pytest.raises(OptionError, match="at_least=-1"):
        attribute_pairs(model, graph, task, at_least=-1)
    for few in (
        TensorGraph.from_model(model),
        graph.restrict([]),
        TensorGraph.from_model(model, saes=graph.saes[:1]),
        TensorGraph.from_model(model, saes=[dictionary(model, "mlp_out", i) for i in (0, 1)]),
    ):
        with pytest.raises(GraphError, match="has no edge between two features"):
            attribute_pairs(model, few, task)
    with pytest.raises(GraphError, match="not ascending"):
        PairScores(graph, torch.tensor([1, 1]), torch.zeros(2))
    with pytest.raises(GraphError, match=f"{graph.n_edges} is not an edge of"):
        PairScores(graph, torch.tensor([1, graph.n_edges]), torch.zeros(2))


def test_a_gradient_that_is_not_finite_is_refused():
    model, graph, task = problem("gpt2", "stream")

    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * math.inf

    with pytest.raises(NumericalError, match=r"the score of pre0\.f\d+->mid0\.f\d+ is not finite"):
        attribute_pairs(model, graph, task, metric=lambda x, _: Overflow.apply(x)[:, 0])


def test_a_rule_of_ones_own():
    model, graph, task = problem("gpt2", "stream")
    rule = Method(
        "thirds", along_embedding(lambda at: [(at, 0.5), (1.0, 0.5)]), options={"at": 0.3}
    )
    pairs = attribute_pairs(model, graph, task, method=rule, at=0.6)
    assert_equal_where_features_meet(pairs, attribute(model, graph, task, method=rule, at=0.6))


def test_no_change_no_pairs():
    model, graph, task = problem("gpt2", "mixed")
    same = type(task).from_tokens(task.clean, task.clean, answer=task.answer, wrong=task.wrong)
    pairs = attribute_pairs(model, graph, same)
    assert len(pairs) == 0
    assert pairs.features(3) == [] == pairs.top(3)
    assert pairs["m0.f1->m1.f1"] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_keys_are_summed_whatever_their_order(dtype):
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(50, (1000,), generator=generator).int()
    keys[:3] = torch.tensor([2**31 - 1, 2**31 - 1, 0])
    values = torch.randn(1000, generator=generator, dtype=dtype)
    different, sums = sum_equal(keys, values)
    assert torch.equal(different, keys.unique())
    want = torch.zeros(len(different), dtype=torch.float64).index_add(
        0, torch.searchsorted(different, keys), values.double()
    )
    torch.testing.assert_close(sums, want, rtol=1e-12, atol=1e-12)
    mixed = torch.randperm(1000, generator=generator)
    assert torch.equal(sum_equal(keys[mixed], values[mixed])[1], sums)  # to the last bit
    none = sum_equal(keys[:0], values[:0])
    assert len(none[0]) == len(none[1]) == 0


def large(model, task, kind, layer, *, writes=None):
    """A dictionary of 24,576 features, of which about 30 are active on a token."""
    n, d = 24_576, model.cfg.d_model
    draw = torch.Generator().manual_seed(layer)
    W = torch.randn(n, d, generator=draw)
    W = W / W.norm(dim=1, keepdim=True)
    name = f"blocks.{layer}.{'hook_resid_post' if writes is None else 'ln2.hook_normalized'}"
    x = model.run_with_cache(task.clean, names_filter=name)[1][name].flatten(0, 1)
    threshold = (x @ W.T).quantile(1 - 30 / n, dim=1).mean()
    return Dictionary(
        name=f"large.{layer}",
        reads=Site(kind, layer),
        writes=(Site(writes or kind, layer),),
        W_enc=W.T.contiguous(),
        b_enc=torch.zeros(n),
        decoders=(W,),
        b_dec=torch.zeros(d),
        gate=Threshold(threshold.expand(n)),
    )


@pytest.mark.parametrize("place", ["stream", "transcoders"])
def test_dictionaries_of_the_usual_size_need_no_dense_edges(place, monkeypatch):
    model = HOOKED["gpt2"](dtype=torch.float32, n_layers=3)
    task = random_task(model, n=4, lengths=[12, 12, 10, 8])
    kind, writes = ("resid_post", None) if place == "stream" else ("mlp_in", "mlp_out")
    saes = [large(model, task, kind, layer, writes=writes) for layer in range(3)]
    graph = TensorGraph.from_model(model, saes=saes)
    assert graph.n_edges > 2**30  # over 4 GB in float32, and twice that for sums
    for name in ("has_edge", "src_nodes", "dest_nodes"):
        monkeypatch.setattr(TensorGraph, name, property(lambda self: pytest.fail("made in full")))
    for name in ("dense", "flat"):
        monkeypatch.setattr(TensorGraph, name, lambda *_: pytest.fail("dense over edges"))

    tracemalloc.start()
    pairs = attribute_pairs(model, graph, task, keep=2_000)
    best, table = pairs.features(20), pairs.to_pandas()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # bytes of Python objects
    assert len(pairs) == len(table) == 2_000
    monkeypatch.undo()
    scores = attribute(model, graph.restrict(best), task, method="eap")
    for name, value in pairs.top(5):
        assert scores[name] == pytest.approx(value, rel=1e-4)
