"""Identities of scores on models of every shape, from plain runs and from other batches."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from sae_circuits.attribution import attribute, methods
from sae_circuits.attribution.run import find_method
from sae_circuits.graph import TensorGraph
from sae_circuits.metrics import Targets, logit_diff, prob_diff
from sae_circuits.tasks import Task
from shapes import BRIDGED, HOOKED, HOOKED_CONFIGS, N_HEADS, hooked, linear, random_task

METHODS = [n for n in sorted(methods()) if n != "random" and find_method(n).search is None]
OF_METRIC = [method for method in METHODS if find_method(method).in_metric_unit]
OPTIONS = {"eap-ig": {"steps": 2}, "eap-ig-activations": {"steps": 1}, "mask-ig": {"steps": 2}}
GROUPED = sorted(name for name, cfg in HOOKED_CONFIGS.items() if "n_key_value_heads" in cfg)


def scores_of(model, task, method, *, split_kv=False, **more):
    graph = TensorGraph.from_model(model, split_kv=split_kv)
    return attribute(model, graph, task, method=method, **OPTIONS.get(method, {}), **more)


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


# -- sums ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", sorted(HOOKED))
def test_a_writers_edges_sum_to_its_node_attribution(shape):
    """sum_v s(u, v) = D_u . dm/du, with the gradient from one plain run and no split inputs."""
    model = HOOKED[shape]()
    task = random_task(model)
    sites = {"input": "blocks.0.hook_resid_pre"}
    for layer in range(len(model.blocks)):
        sites[f"a{layer}"] = f"blocks.{layer}.hook_attn_out"
        if not model.cfg.attn_only:
            sites[f"m{layer}"] = f"blocks.{layer}.hook_mlp_out"
    leaves = {}

    def leaf(name):
        def hook(x, hook):
            leaves[name] = torch.zeros_like(x, requires_grad=True)
            return x + leaves[name]

        return hook

    rows = torch.arange(len(task))
    clean = model(task.clean)[rows, task.position].detach()
    logits = model.run_with_hooks(task.clean, fwd_hooks=[(at, leaf(n)) for n, at in sites.items()])
    logit_diff(logits[rows, task.position], Targets.of(task, clean)).sum().backward()
    corrupt, clean = (_writes(model, tokens, sites) for tokens in (task.corrupt, task.clean))
    for node, value in scores_of(model, task, "eap").by_source().items():
        change = corrupt[node.name] - clean[node.name]
        at = leaves[f"a{node.layer}" if node.kind == "head" else node.name].grad
        assert value == pytest.approx(float((change * at).sum()) / len(task), abs=1e-9)


def _writes(model, tokens, sites):
    """What each head, MLP and the input writes, from one plain run."""
    _, cache = model.run_with_cache(tokens)
    written = {name: cache[at] for name, at in sites.items() if not name.startswith("a")}
    for layer, block in enumerate(model.blocks):
        for head in range(model.cfg.n_heads):
            share = cache[f"blocks.{layer}.attn.hook_z"][:, :, head] @ block.attn.W_O[head]
            if model.cfg.use_normalization_before_and_after:
                share = share / cache[f"blocks.{layer}.ln1_post.hook_scale"] * block.ln1_post.w
            written[f"a{layer}.h{head}"] = share
    return {name: value.detach() for name, value in written.items()}


@torch.no_grad()
def effect(model, task, metric=logit_diff):
    """What the corrupt prompts do to the metric."""
    rows = torch.arange(len(task))
    clean, corrupt = (model(t)[rows, task.position] for t in (task.clean, task.corrupt))
    goal = Targets.of(task, clean)
    return float((metric(corrupt, goal) - metric(clean, goal)).mean())


@pytest.mark.parametrize("method", ["eap", "clean-corrupted", "eap-ig", "exact"])
def test_the_edges_into_the_logits_sum_to_the_whole_effect_without_a_norm(method):
    model = HOOKED["no-norm"]()
    task = random_task(model)
    found = scores_of(model, task, method)
    into_logits = found.values[found.graph.offsets[-2] :].sum()
    assert float(into_logits) == pytest.approx(effect(model, task), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "order"), [("midpoint", 2), ("left", 1)])
def test_the_error_of_integrated_gradients_falls_with_the_rules_order(rule, order):
    model = HOOKED["gemma2"]()
    task, graph = random_task(model, n=2, pos=4), TensorGraph.from_model(model)
    whole = effect(model, task)

    def error(steps):
        found = attribute(model, graph, task, method="eap-ig", steps=steps, rule=rule)
        return abs(next(iter(found.by_source().values())) - whole)

    coarse, fine = error(128), error(256)
    assert fine < 0.02 * abs(whole)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("shape", GROUPED)
@pytest.mark.parametrize("method", sorted(set(OF_METRIC) - {"exact"}))
def test_shared_key_value_scores_are_the_sum_of_split_ones(shape, method):
    model = HOOKED[shape]()
    task, group = random_task(model), N_HEADS // model.cfg.n_key_value_heads
    shared = scores_of(model, task, method)
    each = scores_of(model, task, method, split_kv=True)
    for edge in shared.graph.edges:
        dest, names = edge.dest, [edge.name]
        if dest.kind == "kv":
            heads = range(dest.index * group, (dest.index + 1) * group)
            names = [f"{edge.src.name}->a{dest.layer}.h{h}<{dest.port}>" for h in heads]
        assert shared[edge] == pytest.approx(sum(each[name] for name in names), abs=1e-9)


# -- what must change nothing --------------------------------------------------------------------


@pytest.fixture(scope="module")
def uneven():
    model = HOOKED["gemma2"]()
    return model, random_task(model, n=6, pos=7, lengths=[7, 4, 5, 7, 4, 6])


@pytest.mark.parametrize("method", METHODS)
def test_batches_order_and_padding_change_nothing(uneven, method):
    model, task = uneven
    whole = scores_of(model, task, method).values
    assert whole.abs().max() > 1e-2
    for size in (1, 2, 4):
        close(scores_of(model, task, method, batch_size=size).values, whole)
    close(scores_of(model, task[[5, 2, 0, 4, 1, 3]], method).values, whole)
    for left in (True, False):
        close(scores_of(model, padded(task, by=3, left=left), method).values, whole)


def padded(task: Task, *, by: int, left: bool) -> Task:
    """The same prompts with other padding, of tokens that mean something elsewhere."""
    n, pos = task.clean.shape
    size = pos + by
    clean, corrupt = torch.full((n, size), 7), torch.full((n, size), 8)
    mask = torch.zeros(n, size, dtype=torch.bool)
    for i, length in enumerate(task.lengths.tolist()):
        start = size - length if left else 0
        clean[i, start : start + length] = task.clean[i, :length]
        corrupt[i, start : start + length] = task.corrupt[i, :length]
        mask[i, start : start + length] = True
    return Task.from_tokens(clean, corrupt, answer=task.answer, wrong=task.wrong, mask=mask)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_the_mean_over_examples(uneven, method):
    model, task = uneven
    each = [scores_of(model, task[i : i + 1], method).values for i in range(len(task))]
    close(sum(each) / len(task), scores_of(model, task, method).values)


def test_folded_and_unfolded_norms_give_the_same_scores():
    model, folded = HOOKED["gpt2"](), hooked("gpt2-folded")
    weights = model.fold_layer_norm(copy.deepcopy(model.state_dict()), center_weights=False)
    missing, unexpected = folded.load_state_dict(weights, strict=False)
    assert not missing
    assert all(".ln" in f".{name}" for name in unexpected)  # the norms' own weights, now 1 and 0
    task = random_task(model)
    close(folded(task.clean), model(task.clean))
    for method in METHODS:
        close(scores_of(folded, task, method).values, scores_of(model, task, method).values)


# -- what must change something ------------------------------------------------------------------


@pytest.mark.parametrize("method", OF_METRIC)
def test_twice_the_metric_is_twice_the_score(method):
    model = HOOKED["llama"]()
    task = random_task(model)

    def twice(logits, targets):
        return 2 * prob_diff(logits, targets)

    once = scores_of(model, task, method, metric=prob_diff).values
    close(scores_of(model, task, method, metric=twice).values, 2 * once)


@pytest.mark.parametrize("method", OF_METRIC)
def test_swapping_clean_and_corrupt_turns_the_sign_on_a_linear_model(method):
    model = linear()
    task = random_task(model)
    found = scores_of(model, task, method).values
    assert found.abs().max() > 0.1
    close(scores_of(model, task.swapped(), method).values, -found)


# -- the model stays as it was -------------------------------------------------------------------


def state_of(model):
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()},
        {name: len(m._forward_hooks) + len(m._backward_hooks) for name, m in model.named_modules()},
        {name: repr(value) for name, value in vars(model.cfg).items()},
        model.training,
    )


@pytest.mark.parametrize("kind", [HOOKED, BRIDGED], ids=["hooked", "bridge"])
@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was_found_also_after_a_failure_or_ctrl_c(kind, method):
    model = kind["gpt2"]()
    task, before = random_task(model), state_of(model)
    for interruption in (None, ZeroDivisionError, KeyboardInterrupt):

        def stop(*_, interruption=interruption):
            raise interruption("stop")

        if interruption is None:
            scores_of(model, task, method)
        else:
            broken = model.ln_final.register_forward_hook(stop)
            with pytest.raises(interruption, match="stop"):
                scores_of(model, task, method)
            broken.remove()
        after = state_of(model)
        assert all(torch.equal(value, before[0][name]) for name, value in after[0].items())
        assert after[1:] == before[1:]


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", sorted(HOOKED))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.25)])
def test_narrow_models_give_the_scores_of_wide_ones(shape, dtype, tolerance):
    wide, narrow = HOOKED[shape](), HOOKED[shape](dtype=dtype)
    task = random_task(wide)
    one, other = scores_of(wide, task, "eap").values, scores_of(narrow, task, "eap").values
    assert other.dtype == torch.float32
    assert (one - other.double()).norm() / one.norm() < tolerance
