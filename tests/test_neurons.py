"""Neurons as writers: scores and circuits against the slow reference, and the identities."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference_ablation import reference_logits
from reference_attribution import reference_scores
from sae_circuits import load, prune, save
from sae_circuits.ablation import ablate, clean_logits, intervene
from sae_circuits.ablation.interventions import partners
from sae_circuits.attribution import (
    active_features,
    attribute,
    attribute_nodes,
    attribute_spans,
)
from sae_circuits.errors import GraphError, OptionError, UnknownName
from sae_circuits.evaluation import evaluate
from sae_circuits.graph import Architecture, Circuit, Node, TensorGraph, parse_node
from sae_circuits.metrics import logit_diff
from sae_circuits.viz import heat_map
from shapes import D_HEAD, D_MLP, HOOKED, N_HEADS, TWINS, random_task
from small_dictionaries import dictionary

METHODS = {
    "eap": {},
    "clean-corrupted": {},
    "eap-ig": {"steps": 2},
    "eap-ig-activations": {"steps": 2},
    "exact": {},
}
KINDS = {"mlp": "mlp", "heads": "heads", "all": True, "some": ["a0", "m1"]}
# All shapes, of which the neurons are taken in turn whole and restricted.
IN_TURN = [(shape, i % 2 == 1) for i, shape in enumerate(HOOKED)]
INTERVENTIONS = ["corrupt", "zero", "mean", "mean-positional", "resample"]


@cache
def model_of(shape):
    return HOOKED[shape](dtype=torch.float64)


def asked_of(shape, kind):
    """Which neurons a shape has of those that are asked for."""
    if shape == "attention-only":
        return {"mlp": "heads", "some": ["a0"]}.get(kind, KINDS[kind])
    return KINDS[kind]


def problem(shape, kind, *, restricted=False, **task):
    model = model_of(shape)
    graph = TensorGraph.from_model(model, neurons=asked_of(shape, kind))
    if restricted:
        kept = [n for n in graph.src_nodes if n.kind == "neuron" and n.index in (1, 2, 5)]
        graph = graph.restrict(kept)
    return model, graph, random_task(model, **task)


def random_circuit(graph, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Circuit(graph, torch.rand(graph.n_edges, generator=generator) < share)


def component(node):
    """The head or MLP of which a writer is a part."""
    if node.kind == "neuron":
        return Node("mlp", node.layer) if node.head is None else Node("head", node.layer, node.head)
    return Node("mlp", node.layer) if (node.kind, node.site) == ("error", "m") else node


# -- the graph ---------------------------------------------------------------------------------


@given(
    layer=st.integers(0, 99),
    index=st.integers(0, 99_999),
    head=st.none() | st.integers(0, 99),
    pos=st.none() | st.integers(0, 9),
)
def test_names_read_back(layer, index, head, pos):
    site = "m" if head is None else "a"
    node = Node("neuron", layer, index, site=site, pos=pos, head=head)
    assert parse_node(node.name) == node


@pytest.mark.parametrize(
    "name", ["m3.n", "a3.n5", "m3.h1.n5", "a3.h1.n05", "post3.n5", "a3.kv1.n5"]
)
def test_names_that_are_none(name):
    with pytest.raises(GraphError, match=r"a neuron, such as 'm3\.n17' and 'a2\.h1\.n5'"):
        parse_node(name)


def test_every_neuron_is_a_writer_and_heads_and_mlps_read():
    _, graph, _ = problem("gpt2", "all")
    whole = TensorGraph.from_model(model_of("gpt2"))
    assert graph.readers == whole.readers
    kinds = [node.kind for node in graph.src_nodes]
    assert kinds.count("neuron") == 2 * (N_HEADS * D_HEAD + D_MLP)
    assert kinds.count("error") == 2  # an MLP's bias; nothing is left of heads
    for i, node in enumerate(graph.src_nodes):
        assert graph.src_id(node.name) == i
        assert graph.src_node(i) == node
    assert "a0.h3.n5->a1.h0<k>" in graph.edges
    assert "m1.n3->a1.h0<k>" not in graph.edges
    heads = [graph.readers_of[graph.src_id(f"a1.h2.n{k}")] for k in range(D_HEAD)]
    assert set(heads) == {whole.readers_of[whole.src_id("a1.h2")]}
    with pytest.raises(
        GraphError, match=r"'a0\.h1' does not write in .*, it is split into neurons"
    ):
        graph.src_id("a0.h1")


def test_restriction_merges_the_others_into_an_error_node():
    _, graph, _ = problem("gpt2", "all")
    few = graph.restrict(["a0.h3.n5", "m1.n7"])
    assert [n.name for n in few.src_nodes] == [
        "input", "a0.h3.n5", "a0.error", "m0.error", "a1.error", "m1.n7", "m1.error",
    ]  # fmt: skip
    assert not few.is_part
    assert not graph.is_part
    assert few.restrict(["m1.n7"]).restrict([]).n_src == 5
    by_ids = graph.restrict({"m0": range(D_MLP), "a0": [3 * D_HEAD + 5], "m1": [7], "a1": []})
    assert [n.name for n in by_ids.src_nodes if n.layer == 1] == ["a1.error", "m1.n7", "m1.error"]
    assert by_ids.subgraph([n for n in by_ids.src_nodes if n.name != "a1.error"]).is_part
    assert graph.subgraph([n for n in graph.src_nodes if n.name != "a1.h2.n3"]).is_part
    for name in ("m1.n99", "a0.h9.n1", "a0.h1.n6", "m1.f7"):
        with pytest.raises(GraphError, match=f"'{name}' is not a (neuron|feature) of"):
            graph.restrict([name])
    with pytest.raises(GraphError, match="'m1' is not a feature or a neuron"):
        graph.restrict(["m1"])


def test_what_cannot_be_asked_for():
    model = model_of("gpt2")
    with pytest.raises(UnknownName, match="unknown kind of neuron 'mlps': did you mean 'mlp'"):
        TensorGraph.from_model(model, neurons="mlps")
    with pytest.raises(UnknownName, match="part of a layer with neurons 'm9'"):
        TensorGraph.from_model(model, neurons=["m0", "m9"])
    sae = dictionary(model, "mlp_out", 0)
    with pytest.raises(GraphError, match="both split 'm0'"):
        TensorGraph.from_model(model, saes=[sae], neurons="mlp")
    with pytest.raises(GraphError, match="'tiny-attention-only' has no MLPs"):
        TensorGraph.from_model(model_of("attention-only"), neurons="mlp")
    with pytest.raises(GraphError, match="number of hidden units of 'toy' is not known"):
        TensorGraph.from_model(Architecture("toy", 2, 2, 2, 16, 4, 50, 32), neurons=True)


# -- scores ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "restricted"), IN_TURN)
def test_scores_equal_the_reference(shape, restricted):
    model, graph, task = problem(shape, "all", restricted=restricted, lengths=[6, 4, 5])
    ours = attribute(model, graph, task, method="eap")
    slow = reference_scores(model, graph, task, logit_diff, "eap")
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["gpt2", "gemma2", "pythia"])
def test_every_method_equals_the_reference(shape, method):
    model, graph, task = problem(shape, "all", restricted=True, n=2)
    options = {"steps": 2, "rule": "midpoint"} if METHODS[method] else {}
    ours = attribute(model, graph, task, method=method, **options)
    slow = reference_scores(model, graph, task, logit_diff, method, **options)
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("intervention", INTERVENTIONS[1:4])
@pytest.mark.parametrize("shape", ["gpt2", "gemma2"])
def test_other_interventions_equal_the_reference(shape, intervention):
    model, graph, task = problem(shape, "all", lengths=[6, 4, 5])
    ours = attribute(model, graph, task, method="eap", intervention=intervention)
    slow = reference_scores(model, graph, task, logit_diff, "eap", intervention=intervention)
    torch.testing.assert_close(ours.values, slow, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("shape", "restricted"), IN_TURN)
def test_neurons_add_up_to_their_component(shape, restricted):
    model, graph, task = problem(shape, "all", restricted=restricted, lengths=[6, 4, 5])
    whole = TensorGraph.from_model(model)
    cases = [("eap", {}, "corrupt"), ("eap", {}, "zero")]
    if shape in ("gpt2", "gemma2"):
        cases += [
            (name, options, "corrupt") for name, options in METHODS.items() if name != "exact"
        ]
    for method, options, intervention in cases:
        how = {"method": method, "intervention": intervention, **options}
        parts, wholes = (attribute(model, g, task, **how).dense() for g in (graph, whole))
        found: dict = {}
        for node, row in zip(graph.src_nodes, parts, strict=True):
            # what is left of a layer's heads is the rest of all of them together
            key = (
                (node.layer, "a") if component(node).kind in ("head", "error") else component(node)
            )
            found[key] = found.get(key, 0) + row
        want: dict = {}
        for node, row in zip(whole.src_nodes, wholes, strict=True):
            key = (node.layer, "a") if node.kind == "head" else node
            want[key] = want.get(key, 0) + row
        assert found.keys() == want.keys()
        for key, row in found.items():
            torch.testing.assert_close(row, want[key], rtol=1e-9, atol=1e-11)


def test_neurons_of_a_head_add_up_to_that_head():
    model, graph, task = problem("llama", "heads")
    whole = attribute(model, TensorGraph.from_model(model), task, method="eap").by_source()
    found: dict = {}
    for node, value in attribute(model, graph, task, method="eap").by_source().items():
        found[component(node)] = found.get(component(node), 0) + value
    assert found == pytest.approx(whole, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shape", ["gpt2", "gemma2", "attention-only"])
def test_a_node_scores_the_sum_of_the_edges_that_leave_it(shape):
    model, graph, task = problem(shape, "all", lengths=[6, 4, 5])
    for method in ("eap", "eap-ig", "clean-corrupted", "eap-ig-activations"):
        options = {"method": method, **METHODS[method]}
        edges = attribute(model, graph, task, **options).dense().sum(1)
        nodes = attribute_nodes(model, graph, task, **options)
        torch.testing.assert_close(nodes.values, edges, rtol=1e-8, atol=1e-11)
        best = nodes.features(4)
        assert all(node.kind == "neuron" for node in best)
        named = [parse_node(name) for name, _ in nodes.top(len(nodes))]
        assert best == [node for node in named if node.kind == "neuron"][:4]


def test_the_error_node_of_an_mlp_carries_its_bias_alone():
    model, graph, task = problem("gpt2", "mlp")
    scores = attribute(model, graph, task, method="eap").by_source()
    assert all(abs(v) < 1e-14 for node, v in scores.items() if node.kind == "error")
    zero = attribute(model, graph, task, method="eap", intervention="zero").by_source()
    assert all(abs(v) > 1e-4 for node, v in zero.items() if node.kind == "error")


def test_scores_do_not_depend_on_batches_spans_or_other_neurons():
    model, graph, task = problem("pythia", "all", n=6, lengths=[6, 4, 5, 6, 5, 4])
    every = attribute(model, graph, task, method="eap")
    batched = attribute(model, graph, task, method="eap", batch_size=4)
    torch.testing.assert_close(batched.values, every.values, rtol=1e-9, atol=1e-12)
    spans = attribute_spans(model, graph, task, {"end": -1}, method="eap")
    torch.testing.assert_close(spans.total.values, every.values, rtol=1e-9, atol=1e-12)
    few = attribute(model, graph.restrict(["a0.h1.n2", "m1.n3"]), task, method="eap")
    for edge in few.graph.edges:
        if edge.src.kind != "error":
            assert few[edge] == pytest.approx(every[edge], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shape", TWINS)
def test_both_kinds_of_model_agree(shape):
    hooked, bridge = TWINS[shape](dtype=torch.float64)
    task, found = random_task(hooked), []
    for model in (hooked, bridge):
        graph = TensorGraph.from_model(model, neurons=True)
        scores = attribute(model, graph, task, method="eap-ig", steps=2)
        found.append((scores.values, ablate(model, random_circuit(graph, 0.5), task)))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-6)  # norms run in float32


# -- circuits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "restricted"), IN_TURN)
def test_circuits_equal_the_reference(shape, restricted):
    model, graph, task = problem(shape, "all", restricted=restricted, lengths=[6, 4, 5])
    for share, direction in ((0.5, "noising"), (0.1, "denoising")):
        circuit = random_circuit(graph, share)
        ours = ablate(model, circuit, task, direction=direction)
        slow = reference_logits(model, circuit, task, direction=direction)
        torch.testing.assert_close(ours, slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("intervention", INTERVENTIONS)
@pytest.mark.parametrize("shape", ["gpt2", "gemma2"])
def test_circuits_under_other_interventions_equal_the_reference(shape, intervention):
    model, graph, task = problem(shape, "all", n=4, lengths=[6, 5, 6, 5])
    permutation = partners(task) if intervention == "resample" else None
    circuit = random_circuit(graph, 0.4)
    ours = ablate(model, circuit, task, intervention=intervention)
    slow = reference_logits(
        model, circuit, task, intervention=intervention, permutation=permutation
    )
    torch.testing.assert_close(ours, slow, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shape", HOOKED)
def test_whole_components_give_the_circuit_of_components(shape):
    model, graph, task = problem(shape, "all", n=4, lengths=[6, 5, 6, 5])
    whole = TensorGraph.from_model(model)
    coarse = random_circuit(whole, 0.5)
    present = {(edge.src, edge.dest) for edge in coarse.edges}
    fine = Circuit(
        graph, torch.tensor([(component(e.src), e.dest) in present for e in graph.edges])
    )
    every = INTERVENTIONS if shape in ("gpt2", "gemma2") else INTERVENTIONS[:2]
    for intervention in every:
        ours = ablate(model, fine, task, intervention=intervention)
        want = ablate(model, coarse, task, intervention=intervention)
        torch.testing.assert_close(ours, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", HOOKED)
def test_full_and_empty_circuits_are_runs_of_the_model(shape):
    model, graph, task = problem(shape, "all", restricted=True, lengths=[6, 4, 5])
    clean, corrupt = clean_logits(model, task), clean_logits(model, task.swapped())
    for direction in ("noising", "denoising"):
        full = ablate(model, Circuit.full(graph), task, direction=direction)
        empty = ablate(model, Circuit.empty(graph), task, direction=direction)
        torch.testing.assert_close(full, clean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(empty, corrupt, rtol=1e-10, atol=1e-10)


def test_pruned_circuits_and_reports():
    model, graph, task = problem("gpt2", "all", n=4)
    scores = attribute(model, graph, task, method="eap")
    for pruner in (prune.top_n, prune.best_first):
        circuit = prune.drop_dead_nodes(pruner(scores, 120))
        assert prune.drop_dead_nodes(circuit) == circuit
        assert len(circuit) > 0
    report = evaluate(model, circuit, task)
    dropped = ablate(model, circuit, task)
    torch.testing.assert_close(ablate(model, pruner(scores, 120), task), dropped)
    assert report.faithfulness_errors_removed == pytest.approx(report.faithfulness, abs=1e-9)
    nodes = Circuit.from_nodes(graph, ["a1.h2.n3", "m0.n4"])
    assert "a1.h2.n3->logits" in nodes
    assert "m0.n4->a1.h2<q>" in nodes
    assert "m0.n4->a1.h1<q>" not in nodes


def test_the_model_is_left_as_it_was():
    model, graph, task = problem("gemma2", "all")
    before = {name: p.clone() for name, p in model.named_parameters()}
    asking = [p.requires_grad for p in model.parameters()]
    attribute(model, graph, task, method="eap-ig", steps=1)
    ablate(model, random_circuit(graph, 0.5), task)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert asking == [p.requires_grad for p in model.parameters()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# -- files and pictures ------------------------------------------------------------------------


def test_scores_and_circuits_survive_files_without_dictionaries(tmp_path):
    model, graph, task = problem("gpt2", "all")
    for some in (graph, graph.restrict(["a0.h3.n5", "m1.n7"])):
        scores = attribute(model, some, task, method="eap")
        save(scores, tmp_path / "scores.safetensors")
        read = load(tmp_path / "scores.safetensors")
        assert read.graph == some
        assert torch.equal(read.values, scores.values)
        circuit = prune.top_n(scores, 12)
        save(circuit, tmp_path / "circuit.json")
        again = load(tmp_path / "circuit.json")
        assert again == circuit
        torch.testing.assert_close(ablate(model, again, task), ablate(model, circuit, task))
        text = (tmp_path / "circuit.json").read_text()
        assert all(f'"{edge.name}"' in text for edge in circuit.edges)


def test_features_and_neurons_side_by_side(tmp_path):
    model = model_of("gpt2")
    sae = dictionary(model, "resid_post", 0)
    graph = TensorGraph.from_model(model, saes=[sae], neurons=["a0", "m1"])
    task = random_task(model, lengths=[6, 4, 5])
    scores = attribute(model, graph, task, method="eap")
    slow = reference_scores(model, graph, task, logit_diff, "eap")
    torch.testing.assert_close(scores.values, slow, rtol=1e-7, atol=1e-9)
    circuit = random_circuit(graph, 0.5)
    slow = reference_logits(model, circuit, task)
    torch.testing.assert_close(ablate(model, circuit, task), slow, rtol=1e-8, atol=1e-9)
    save(circuit, tmp_path / "circuit.json")
    read = load(tmp_path / "circuit.json")
    with pytest.raises(GraphError, match="holds no dictionaries"):
        ablate(model, read, task)
    assert read.with_saes([sae]) == circuit


def test_drawings_name_neurons(tmp_path):
    model, graph, task = problem("gpt2", "all")
    scores = attribute(model, graph, task, method="eap")
    circuit = prune.best_first(scores, 30)
    text = circuit.render(tmp_path / "circuit.dot").read_text()
    page = circuit.render(tmp_path / "circuit.html").read_text()
    for node in circuit.nodes:
        if node.kind == "neuron":
            assert node.name in text
            assert node.name in page
    assert any(node.kind == "neuron" for node in circuit.nodes)


# -- changes in a run --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["gpt2", "gemma2"])
def test_neurons_are_changed_where_they_stand(shape):
    model, graph, task = problem(shape, "all", lengths=[6, 4, 5])
    changes = {"m0.n3": ("set", 2.0), "a1.h2.n5": ("scale", -1.0), "m1.n4@2": ("add", 0.5)}
    done = intervene(model, graph, task, changes, watch=["m1.n4", "a1.h2.n5"])
    real = (torch.arange(6) < task.lengths[:, None])[..., None]

    def write(layer, where, new):
        def hook(x, hook):
            x = x.clone()
            x[(..., *where)] = torch.where(real[..., 0], new(x[(..., *where)]), x[(..., *where)])
            return x

        return f"blocks.{layer}.{'mlp.hook_post' if len(where) == 1 else 'attn.hook_z'}", hook

    third = torch.arange(6) == 2
    hooks = [
        write(0, (3,), lambda a: torch.full_like(a, 2.0)),
        write(1, (2, 5), lambda a: -a),
        write(1, (4,), lambda a: a + 0.5 * third),
    ]
    logits = model.run_with_hooks(task.clean, fwd_hooks=hooks)[torch.arange(3), task.position]
    torch.testing.assert_close(done.logits, logits.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(done.clean_logits, clean_logits(model, task))
    assert (done.logits - done.clean_logits).abs().max() > 1e-3
    clean, changed = done.clean_activations["m1.n4"], done.activations["m1.n4"]
    assert clean.shape == changed.shape == (3, 6)
    _, cache_ = model.run_with_cache(task.clean)
    torch.testing.assert_close(clean, cache_["blocks.1.mlp.hook_post"][..., 4] * real[..., 0])


def test_what_neurons_leave_is_not_changed():
    model, graph, task = problem("gpt2", "mlp")
    with pytest.raises(OptionError, match=r"'m0\.error' is what neurons leave"):
        intervene(model, graph, task, {"m0.error": ("scale", 0.0)})


def test_active_features_are_features_alone():
    model = model_of("gpt2")
    sae = dictionary(model, "resid_post", 0)
    graph = TensorGraph.from_model(model, saes=[sae], neurons=["a0", "m1"])
    found = active_features(model, graph, random_task(model))
    assert found
    assert all(node.kind == "feature" and graph.src_id(node) for node in found)


def test_a_heat_map_sums_neurons_in_the_column_of_their_head_or_mlp():
    model, graph, task = problem("gpt2", "all")
    fine = heat_map(attribute(model, graph, task, method="eap"))
    whole = attribute(model, TensorGraph.from_model(model), task, method="eap")
    coarse = heat_map(whole)
    grids = [torch.as_tensor(figure.axes[0].images[0].get_array()) for figure in (fine, coarse)]
    torch.testing.assert_close(grids[0][:, : N_HEADS + 1], grids[1], rtol=1e-5, atol=1e-6)


def test_all_neurons_together_are_worth_their_components():
    _, graph, _ = problem("gpt2", "all")
    whole = TensorGraph.from_model(model_of("gpt2"))
    assert Circuit.full(graph).weighted_edges == pytest.approx(whole.n_edges)
    one = Circuit.from_edges(graph, ["a0.h1.n2->logits"])
    assert one.weighted_edges == pytest.approx(1 / D_HEAD)
