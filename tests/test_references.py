"""The slow references are themselves right: identities that need nothing but the model."""

from __future__ import annotations

import copy

import pytest
import torch

from reference_ablation import reference_logits
from reference_attribution import patched, reference_scores
from sae_circuits.graph import Circuit, TensorGraph
from sae_circuits.metrics import logit_diff, prob_diff
from shapes import HOOKED, linear, random_task
from split_run import at_answers, forward, replacement, split, targets_of

SHAPES = sorted(HOOKED)


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@pytest.fixture(scope="module", params=SHAPES)
def setting(request):
    model = HOOKED[request.param]()
    graph = TensorGraph.from_model(model)
    return request.param, model, graph, random_task(model, n=3, pos=6, lengths=[6, 4, 5])


def test_the_split_copy_is_the_same_function_and_the_model_stays_as_it_was(setting):
    _, model, graph, task = setting
    flags, weights = copy.deepcopy(vars(model.cfg)), copy.deepcopy(model.state_dict())
    run = forward(split(model, graph), task.clean)
    close(run.logits, model(task.clean))
    assert vars(model.cfg) == flags
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(point.fwd_hooks or point.bwd_hooks for point in model.hook_dict.values())


def test_the_stream_is_the_sum_of_its_writers_and_biases(setting):
    _, model, graph, task = setting
    run = forward(split(model, graph), task.clean)
    _, cache = model.run_with_cache(task.clean)
    biases = sum(block.attn.b_O for block in model.blocks)
    close(
        sum(run.written.values()) + biases, cache[f"blocks.{len(model.blocks) - 1}.hook_resid_post"]
    )


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_full_circuit_is_the_model_and_empty_circuit_the_corrupt_run(setting, direction):
    _, model, graph, task = setting
    clean, corrupt = (at_answers(model(t), task) for t in (task.clean, task.corrupt))
    assert (clean - corrupt).abs().mean() > 0.1
    close(reference_logits(model, Circuit.full(graph), task, direction=direction), clean)
    close(reference_logits(model, Circuit.empty(graph), task, direction=direction), corrupt)


@pytest.mark.parametrize("intervention", ["zero", "mean", "mean-positional", "resample"])
def test_empty_circuit_is_the_intervention_written_out_by_hand(setting, intervention):
    shape, model, graph, task = setting
    order = torch.tensor([1, 2, 0])
    to = replacement(split(model, graph), task, intervention, order)
    stream = sum(to.values()) + sum(block.attn.b_O for block in model.blocks)
    normed = model.ln_final(stream) if shape != "no-norm" else stream
    expected = model.unembed(normed)
    if (cap := model.cfg.output_logits_soft_cap) > 0:
        expected = cap * torch.tanh(expected / cap)
    actual = reference_logits(
        model, Circuit.empty(graph), task, intervention=intervention, permutation=order
    )
    close(actual, at_answers(expected, task))


def test_eap_is_the_derivative_of_the_patch_at_zero(setting):
    _, model, graph, task = setting
    parts = split(model, graph)
    clean, to = forward(parts, task.clean), replacement(parts, task, "corrupt")
    change = {src: to[src] - clean.written[src] for src in to}
    goal = targets_of(task, at_answers(clean.logits, task))

    def metric(src, dest, share):
        run = patched(parts, task, {(src, dest): share}, change)
        return logit_diff(at_answers(run.logits, task), goal).mean()

    scores = reference_scores(model, graph, task, logit_diff)
    assert (scores != 0).float().mean() > 0.9
    for edge in range(0, graph.n_edges, 7):
        src, dest = (int(end) for end in graph.ends(torch.tensor([edge])))
        step = 1e-4
        slope = (metric(src, dest, step) - metric(src, dest, -step)) / (2 * step)
        close(scores[edge], slope, 1e-6)


def test_all_methods_are_exact_on_a_linear_model():
    model = linear()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2)
    exact = reference_scores(model, graph, task, logit_diff, "exact")
    assert exact.abs().max() > 0.1
    for method in ("eap", "eap-ig", "clean-corrupted", "eap-ig-activations"):
        close(reference_scores(model, graph, task, logit_diff, method, steps=2), exact, 1e-9)


def test_logit_edges_sum_to_the_whole_effect_without_a_norm():
    model = HOOKED["no-norm"]()
    graph, task = TensorGraph.from_model(model), random_task(model)
    scores = reference_scores(model, graph, task, logit_diff)
    close(scores[graph.offsets[-2] :].sum(), effect(model, task, task.corrupt))


def effect(model, task, tokens):
    clean, other = (at_answers(model(t), task) for t in (task.clean, tokens))
    goal = targets_of(task, clean)
    return (logit_diff(other, goal) - logit_diff(clean, goal)).mean().detach()


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "order"), [("midpoint", 2), ("left", 1)])
def test_input_edges_of_eap_ig_tend_to_the_whole_effect(rule, order):
    model = HOOKED["gemma2"]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2, pos=4)
    whole = effect(model, task, task.corrupt)
    from_input = graph.ends(torch.arange(graph.n_edges))[0] == 0

    def error(steps):
        scores = reference_scores(model, graph, task, logit_diff, "eap-ig", steps=steps, rule=rule)
        return (scores[from_input].sum() - whole).abs()

    coarse, fine = error(128), error(256)
    assert fine < 0.02 * whole.abs()
    assert abs(torch.log2(coarse / fine) - order) < 0.15


@pytest.mark.parametrize("shape", ["gpt2", "pythia", "gemma2"])
def test_a_sites_edges_of_eap_ig_activations_tend_to_the_effect_of_that_site(shape):
    model = HOOKED[shape]()
    graph, task = TensorGraph.from_model(model), random_task(model)
    scores = reference_scores(model, graph, task, prob_diff, "eap-ig-activations", steps=20)
    parts = split(model, graph)
    clean, to = forward(parts, task.clean), replacement(parts, task, "corrupt")
    goal, first = targets_of(task, at_answers(clean.logits, task)), 0
    sources = graph.ends(torch.arange(graph.n_edges))[0]
    for number, block in enumerate(graph.writers):
        own = range(first, first + len(block))
        shift = sum(to[src] - clean.written[src] for src in own)
        run = forward(
            parts, task.clean, edit_site=lambda i, x, n=number, s=shift: x + s if i == n else x
        )
        change = prob_diff(at_answers(run.logits, task), goal) - prob_diff(
            at_answers(clean.logits, task), goal
        )
        in_block = (sources >= own.start) & (sources < own.stop)
        close(scores[in_block].sum(), change.mean(), 4e-3)
        first += len(block)


@pytest.mark.parametrize("shape", ["llama", "gemma2", "qwen3"])
@pytest.mark.parametrize("method", ["eap", "eap-ig"])
def test_shared_key_value_scores_are_the_sum_of_split_ones(shape, method):
    model = HOOKED[shape]()
    shared, each = TensorGraph.from_model(model), TensorGraph.from_model(model, split_kv=True)
    task = random_task(model)
    of_shared = reference_scores(model, shared, task, logit_diff, method, steps=2)
    of_each = reference_scores(model, each, task, logit_diff, method, steps=2)
    summed = dict.fromkeys((edge.name for edge in shared.edges), 0.0)
    for edge, score in zip(each.edges, of_each.tolist(), strict=True):
        name = edge.name
        if edge.dest.kind == "head" and edge.dest.port in ("k", "v"):
            kv = edge.dest.index // 2
            name = f"{edge.src.name}->a{edge.dest.layer}.kv{kv}<{edge.dest.port}>"
        summed[name] += score
    close(torch.tensor([summed[e.name] for e in shared.edges], dtype=of_shared.dtype), of_shared)


def test_exact_on_the_split_and_the_unsplit_run_agree_on_queries():
    model = HOOKED["llama"]()
    task = random_task(model, n=2)
    shared, each = TensorGraph.from_model(model), TensorGraph.from_model(model, split_kv=True)
    one = reference_scores(model, shared, task, logit_diff, "exact")
    other = reference_scores(model, each, task, logit_diff, "exact")
    for edge in shared.edges:
        if edge.dest.kind != "kv":
            close(one[shared.edge_id(edge)], other[each.edge_id(edge)])
