"""Graphs with features: scores and circuits against the slow reference, and the identities."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import cache

import pytest
import torch

from graph_strategies import architecture
from reference_ablation import reference_logits
from reference_attribution import reference_scores
from sae_circuits import prune
from sae_circuits.ablation import ablate, clean_logits
from sae_circuits.ablation.interventions import partners
from sae_circuits.attribution import active_features, attribute, attribute_nodes
from sae_circuits.errors import DictionaryError, GraphError
from sae_circuits.evaluation import evaluate
from sae_circuits.graph import Circuit, TensorGraph
from sae_circuits.io import load
from sae_circuits.metrics import logit_diff
from sae_circuits.models.dictionaries import Site
from shapes import HOOKED, HOOKED_CONFIGS, TWINS, random_task
from small_dictionaries import dictionary

# What dictionaries a graph has: (what is read, layer, options) each.
SETS = {
    "outputs": [
        ("z", 0, {"gate": "topk"}),
        ("mlp_out", 0, {"scaled": True}),
        ("attn_out", 1, {}),
        ("mlp_out", 1, {"gate": "threshold"}),
    ],
    "stream": [
        ("resid_pre", 0, {}),
        ("resid_mid", 0, {"gate": "topk"}),
        ("resid_pre", 1, {"gate": "gated"}),
        ("resid_post", 1, {"gate": "abstopk"}),
    ],
    "transcoders": [
        ("mlp_in", 0, {"writes": "mlp_out", "skip": True}),
        ("mlp_normalized", 1, {"writes": "mlp_out", "gate": "topk", "skip": True}),
    ],
    "mixed": [
        ("z", 1, {}),
        ("resid_post", 0, {"gate": "threshold"}),
        ("resid_mid", 1, {"writes": "mlp_out", "skip": True, "gate": "threshold"}),
    ],
}
# The same, of which features of what heads or an MLP write read the stream through them.
THROUGH = {
    "through": [
        ("z", 0, {"gate": "topk"}),
        ("mlp_out", 0, {"scaled": True}),
        ("attn_out", 1, {"gate": "threshold"}),
        ("mlp_out", 1, {}),
    ],
    "through-more": [
        ("attn_out", 0, {"scaled": True}),
        ("resid_post", 0, {"scaled": True}),
        ("z", 1, {"scaled": True}),
        ("mlp_in", 1, {"writes": "mlp_out", "skip": True, "scaled": True}),
    ],
}
SETS |= THROUGH
METHODS = {
    "eap": {},
    "clean-corrupted": {},
    "eap-ig": {"steps": 3, "rule": "midpoint"},
    "eap-ig-activations": {"steps": 2, "rule": "midpoint"},
    "exact": {},
}


def can_stand(shape, reads, options):
    cfg = HOOKED_CONFIGS[shape]
    if cfg.get("attn_only") and ("mlp" in reads or reads == "resid_mid" or "writes" in options):
        return False
    return not (cfg.get("parallel_attn_mlp") and reads == "resid_mid")


@cache
def model_of(shape, dtype=torch.float64):
    return HOOKED[shape](dtype=dtype)


@cache
def twins_of(shape):
    return TWINS[shape]()


def dictionaries(model, shape, which):
    saes = [
        dictionary(model, reads, layer, **options)
        for reads, layer, options in SETS[which]
        if can_stand(shape, reads, options)
    ]
    if not saes:
        pytest.skip(f"no dictionary of {which!r} can stand in {shape!r}")
    return saes


@cache
def graph_of(shape, which):
    model = model_of(shape)
    saes = dictionaries(model, shape, which)
    return TensorGraph.from_model(model, saes=saes, through=which in THROUGH)


def problem(shape, which, *, restricted=False, **task):
    model, graph = model_of(shape), graph_of(shape, which)
    if restricted:
        kept = [n for n in graph.src_nodes if n.kind == "feature" and n.index in (1, 2, 5)]
        graph = graph.restrict(kept)
    return model, graph, random_task(model, **task)


def in_turn(names, shapes, levels):
    """Parametrize by every pair of shape and set, with one of the levels for each pair.

    The levels take turns, so that every shape meets every level, and with as many shapes as levels
    every set does too.
    """
    cases = [
        pytest.param(shape, which, *level, id="-".join(map(str, (shape, which, *level))))
        for i, shape in enumerate(shapes)
        for j, which in enumerate(SETS)
        for level in [levels[(i + j) % len(levels)]]
    ]
    return pytest.mark.parametrize(("shape", "which", *names), cases)


def random_circuit(graph, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Circuit(graph, torch.rand(graph.n_edges, generator=generator) < share)


@in_turn(["restricted"], HOOKED, [(False,), (True,)])
def test_scores_equal_the_reference(shape, which, restricted):
    model, graph, task = problem(shape, which, restricted=restricted, lengths=[6, 4, 5])
    for method in ("eap", "eap-ig"):
        ours = attribute(model, graph, task, method=method, **METHODS[method])
        slow = reference_scores(model, graph, task, logit_diff, method, **METHODS[method])
        torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@in_turn(
    ["method"],
    ["gpt2", "pythia", "gemma2"],
    [("clean-corrupted",), ("eap-ig-activations",), ("exact",)],
)
def test_other_methods_equal_the_reference(shape, which, method):
    model, graph, task = problem(shape, which, restricted=True)
    ours = attribute(model, graph, task, method=method, **METHODS[method])
    slow = reference_scores(model, graph, task, logit_diff, method, **METHODS[method])
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("intervention", ["zero", "mean", "mean-positional"])
@pytest.mark.parametrize("which", SETS)
def test_other_interventions_equal_the_reference(which, intervention):
    model, graph, task = problem("gpt2", which, lengths=[6, 4, 5])
    ours = attribute(model, graph, task, method="eap", intervention=intervention)
    slow = reference_scores(model, graph, task, logit_diff, "eap", intervention=intervention)
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@in_turn(["intervention"], ["gpt2"], [("zero",), ("mean",), ("mean-positional",)])
def test_patches_of_other_interventions_equal_the_reference(shape, which, intervention):
    model, graph, task = problem(shape, which, restricted=True, lengths=[6, 4, 5])
    ours = attribute(model, graph, task, method="exact", intervention=intervention)
    slow = reference_scores(model, graph, task, logit_diff, "exact", intervention=intervention)
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@in_turn(["restricted"], HOOKED, [(False,), (True,)])
def test_full_and_empty_circuits_are_runs_of_the_model(shape, which, restricted):
    model, graph, task = problem(shape, which, restricted=restricted, lengths=[6, 4, 5])
    clean, corrupt = clean_logits(model, task), clean_logits(model, task.swapped())
    for direction in ("noising", "denoising"):
        full = ablate(model, Circuit.full(graph), task, direction=direction)
        empty = ablate(model, Circuit.empty(graph), task, direction=direction)
        torch.testing.assert_close(full, clean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(empty, corrupt, rtol=1e-10, atol=1e-10)


@in_turn(["share", "direction"], HOOKED, [(0.2, "noising"), (0.5, "denoising"), (0.8, "noising")])
def test_random_circuits_equal_the_reference(shape, which, share, direction):
    model, graph, task = problem(shape, which, restricted=share == 0.5, lengths=[6, 4, 5])
    circuit = random_circuit(graph, share)
    ours = ablate(model, circuit, task, direction=direction)
    slow = reference_logits(model, circuit, task, direction=direction)
    torch.testing.assert_close(ours, slow, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("intervention", ["zero", "mean", "mean-positional", "resample"])
@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("shape", ["gpt2", "gemma2"])
def test_circuits_under_other_interventions_equal_the_reference(shape, which, intervention):
    model, graph, task = problem(shape, which, n=4, lengths=[6, 5, 6, 5])
    permutation = partners(task) if intervention == "resample" else None
    circuit = random_circuit(graph, 0.4)
    ours = ablate(model, circuit, task, intervention=intervention)
    slow = reference_logits(
        model, circuit, task, intervention=intervention, permutation=permutation
    )
    torch.testing.assert_close(ours, slow, rtol=1e-8, atol=2e-8)


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("shape", HOOKED)
def test_parts_of_a_split_add_up_to_what_is_split(shape, which):
    model, graph, task = problem(shape, which)
    whole = attribute(model, TensorGraph.from_model(model), task, method="eap").by_source()
    parts = attribute(model, graph, task, method="eap").by_source()
    for part, layer in graph.splits:
        if part not in ("a", "m"):
            continue
        kind = "mlp" if part == "m" else "head"
        of = sum(v for n, v in whole.items() if (n.kind, n.layer) == (kind, layer))
        split = sum(v for n, v in parts.items() if (n.site, n.layer) == (part, layer))
        assert split == pytest.approx(of, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("which", SETS)
def test_merging_features_into_the_error_node_keeps_every_sum(which):
    model, graph, task = problem("gpt2", which)
    every = attribute(model, graph, task, method="eap-ig", steps=2)
    some = attribute(model, graph.restrict([]), task, method="eap-ig", steps=2)
    assert {n.kind for n in some.graph.src_nodes} <= {"input", "head", "mlp", "error", "skip"}

    def by_place(scores, nodes, values):
        found = {}
        for node, value in values(scores).items():
            key = node.site or node.name, node.layer
            key = (*key, node.kind == "skip")
            found[key] = found.get(key, 0) + value
        return found

    for values in (type(every).by_source, type(every).by_destination):
        a, b = by_place(every, None, values), by_place(some, None, values)
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("which", SETS)
def test_scores_do_not_depend_on_batches_padding_or_other_features(which):
    model, graph, task = problem("gpt2", which, n=6, lengths=[6, 4, 5, 6, 5, 4])
    every = attribute(model, graph, task, method="eap")
    for size in (1, 4):
        batched = attribute(model, graph, task, method="eap", batch_size=size)
        torch.testing.assert_close(batched.values, every.values, rtol=1e-9, atol=1e-12)
    kept = [n for n in graph.src_nodes if n.kind == "feature" and n.index in (0, 3)]
    few = attribute(model, graph.restrict(kept), task, method="eap")
    for edge in few.graph.edges:
        if "error" not in (edge.src.kind, edge.dest.kind):
            assert few[edge] == pytest.approx(every[edge], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("shape", TWINS)
def test_both_kinds_of_model_agree(shape, which):
    hooked, bridge = twins_of(shape)
    saes = dictionaries(hooked, shape, which)
    task = random_task(hooked)
    found = []
    for model in (hooked, bridge):
        graph = TensorGraph.from_model(model, saes=saes, through=which in THROUGH)
        scores = attribute(model, graph, task, method="eap-ig", steps=2)
        found.append((scores.values, ablate(model, random_circuit(graph, 0.5), task)))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-4)


@in_turn(["intervention"], ["gpt2", "gemma2", "pythia"], [("corrupt",), ("zero",), ("mean",)])
def test_a_node_scores_the_sum_of_the_edges_that_leave_it(shape, which, intervention):
    model, graph, task = problem(shape, which, lengths=[6, 4, 5])
    methods = ("eap",) if intervention != "corrupt" else sorted({*METHODS} - {"exact"})
    for method in methods:
        options = {"method": method, "intervention": intervention, **METHODS[method]}
        edges = attribute(model, graph, task, **options).by_source()
        nodes = attribute_nodes(model, graph, task, **options)
        for node, value in edges.items():
            assert nodes[node] == pytest.approx(value, rel=1e-8, abs=1e-11)


def test_restriction_keeps_the_best_or_the_active_features():
    model, graph, task = problem("gpt2", "mixed")
    nodes = attribute_nodes(model, graph, task, method="eap")
    best = nodes.features(5)
    sizes = {n: abs(nodes[n]) for n in graph.src_nodes if n.kind == "feature"}
    assert set(best) == set(sorted(sizes, key=sizes.get)[-5:])
    assert {n for n in graph.restrict(best).src_nodes if n.kind == "feature"} == set(best)
    assert all(n.site == "post" for n in nodes.features(3, splits=["post0"]))
    active = active_features(model, graph, task)
    assert set(active) >= {n for n, size in sizes.items() if size > 0}
    counted = active_features(model, graph, task, at_least=20)
    assert 0 < len(counted) < len(active)
    with pytest.raises(DictionaryError, match="none is active on 1,000 or more"):
        active_features(model, graph, task, at_least=1000)


@pytest.mark.parametrize("which", SETS)
def test_pruned_circuits_hang_together(which):
    model, graph, task = problem("gpt2", which, restricted=True)
    scores = attribute(model, graph, task, method="eap")
    grown = prune.best_first(scores, 30)
    assert prune.drop_dead_nodes(grown | Circuit.empty(graph)) <= grown
    written = {graph.src_id(edge.src) for edge in grown.edges}
    opened = {graph.dest_nodes[i] for src in written for i in graph.readers_of[src]}
    for edge in grown.edges:  # every edge leads to the logits, or to what is read by a writer in it
        assert edge.dest.kind == "logits" or edge.dest in opened


def test_the_circuit_of_some_nodes_is_all_edges_between_them():
    _, graph, _ = problem("gpt2", "mixed")
    circuit = Circuit.from_nodes(graph, ["post0.f3", "post0.error", "m1.f2", "a1.f4"])
    for edge in graph.edges:
        kept = edge.src.name in ("input", "post0.f3", "post0.error", "m1.f2", "a1.f4")
        reads = edge.dest.name in ("logits", "post0.f3", "post0.error", "m1.f2")
        reads = reads or (edge.dest.kind == "head" and edge.dest.layer == 1)
        assert (edge in circuit) == (kept and reads)
    alone = circuit.without_errors()
    assert alone < circuit < circuit.with_errors()
    assert not any("error" in edge.name for edge in alone.edges)


def test_reports_count_what_passes_through_error_nodes():
    model, graph, task = problem("gpt2", "mixed", n=6)
    circuit = random_circuit(graph, 0.6)
    report = evaluate(model, circuit, task)
    assert set(report.measures) > {"errors_kept", "faithfulness_errors_removed"}
    for name, of in (
        ("errors_kept", circuit.with_errors()),
        ("errors_removed", circuit.without_errors()),
    ):
        alone = evaluate(model, of, task)
        assert getattr(report, f"faithfulness_{name}") == pytest.approx(
            alone.faithfulness, rel=1e-6
        )
    lost = 1 - (float(report.examples["errors_removed"].mean()) - report.corrupt) / (
        report.circuit - report.corrupt
    )
    assert report.error_share == pytest.approx(lost, rel=1e-6)
    whole = evaluate(model, Circuit.full(TensorGraph.from_model(model)), task)
    assert "errors_kept" not in whole.measures
    with pytest.raises(GraphError, match="has no error nodes"):
        _ = whole.error_share


def test_twelve_large_dictionaries_are_described_at_once():
    arch = architecture(12, 12)

    class Large:
        """What the graph asks of a dictionary, without its weights."""

        n_features, is_sae, has_skip, name, fingerprint = 24_576, True, False, "large", ""

        def __init__(self, layer):
            self.reads = Site("resid_post", layer)
            self.writes = (self.reads,)

        def require_fits(self, arch):
            """Whatever fits."""

    tracemalloc.start()
    graph = TensorGraph.from_model(arch, saes=[Large(layer) for layer in range(12)])
    n = 24_576 + 1
    above = [1] + 11 * [n]  # what each layer sees of the layers before it
    assert graph.n_edges == sum(36 * p + (p + 12) + n * (p + 13) for p in above) + n
    assert graph.edge_id("post3.f24575->post4.f7") < graph.n_edges
    few = graph.restrict([f"post{layer}.f{i}" for layer in range(12) for i in range(0, 24_576, 97)])
    assert few.n_src == 1 + 12 * (12 + 1) + 12 * (254 + 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # bytes of Python objects


@pytest.mark.parametrize("method", ["eap", "eap-ig-activations", "exact"])
@pytest.mark.parametrize("which", SETS)
def test_dictionaries_of_another_dtype_than_the_model(which, method):
    exact, graph, task = problem("gpt2", which, restricted=True)
    model = model_of("gpt2", torch.bfloat16)
    saes = [sae.to("cpu", torch.float32) for sae in graph.saes]
    narrow = replace(graph, saes=tuple(saes))
    ours = attribute(model, narrow, task, method=method, **METHODS[method]).values
    want = attribute(exact, graph, task, method=method, **METHODS[method]).values
    assert (
        float(torch.corrcoef(torch.stack([ours.double(), want]))[0, 1]) > 0.9
    )  # 0.98 without features
    for circuit in (Circuit.full(narrow), random_circuit(narrow, 0.5)):
        logits = ablate(model, circuit, task).double()
        slow = ablate(exact, Circuit(graph, circuit.mask), task)
        assert float((logits - slow).abs().max()) < 0.15 * float(slow.abs().max())


def test_no_change_no_score():
    model, graph, task = problem("gpt2", "mixed")
    same = type(task).from_tokens(task.clean, task.clean, answer=task.answer, wrong=task.wrong)
    assert attribute(model, graph, same, method="eap").values.abs().max() == 0


def test_a_graph_whose_features_read_through_components_survives_a_file(tmp_path):
    model, graph, task = problem("gpt2", "through", restricted=True)
    assert graph.through
    assert not graph.is_part
    assert not TensorGraph.from_model(model, saes=graph.saes).through
    circuit = random_circuit(graph, 0.5)
    circuit.save(tmp_path / "circuit.json")
    again = load(tmp_path / "circuit.json").with_saes(graph.saes)
    assert again == circuit
    torch.testing.assert_close(ablate(model, again, task), ablate(model, circuit, task))
    grown = prune.best_first(attribute(model, graph, task, method="eap"), 25)
    assert prune.drop_dead_nodes(grown) <= grown
