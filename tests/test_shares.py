"""mask-ig and information-flow against a mask for every edge and a loop, and their sums."""

from __future__ import annotations

import math

import pytest
import torch

from reference_shares import information_flow, mask_gradients
from sae_circuits import prune
from sae_circuits.attribution import attribute, attribute_nodes, attribute_spans
from sae_circuits.errors import OptionError
from sae_circuits.graph import TensorGraph
from sae_circuits.metrics import Targets, logit_diff
from sae_circuits.models.small import random_model
from shapes import HOOKED, TWINS, linear, random_task
from small_dictionaries import dictionary


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def setting(shape, *, split_kv=False, **task):
    model = HOOKED[shape]()
    graph = TensorGraph.from_model(model, split_kv=split_kv)
    return model, graph, random_task(model, n=2, lengths=[6, 4], **task)


# -- mask-ig -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", HOOKED)
def test_mask_ig_is_the_mean_gradient_in_each_edges_mask(shape):
    model, graph, task = setting(shape)
    ours = attribute(model, graph, task, method="mask-ig", steps=2, rule="midpoint").values
    slow = [mask_gradients(model, graph, task, logit_diff, a, "corrupt") for a in (0.25, 0.75)]
    close(ours, sum(slow) / 2)


@pytest.mark.parametrize("intervention", ["zero", "mean"])
def test_mask_ig_under_other_interventions(intervention):
    model, graph, task = setting("gemma2", split_kv=True)
    ours = attribute(
        model, graph, task, method="mask-ig", steps=1, rule="left", intervention=intervention
    )
    close(ours.values, mask_gradients(model, graph, task, logit_diff, 1.0, intervention))


@pytest.mark.parametrize(("rule", "order"), [("midpoint", 2), ("left", 1)])
def test_all_scores_of_mask_ig_add_up_to_the_whole_effect(rule, order):
    model = random_model()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2, pos=4)
    rows = torch.arange(len(task))
    with torch.no_grad():
        clean, corrupt = (model(t)[rows, task.position] for t in (task.clean, task.corrupt))
    goal = Targets.of(task, clean)
    whole = float((logit_diff(corrupt, goal) - logit_diff(clean, goal)).mean())

    def error(steps):
        found = attribute(model, graph, task, method="mask-ig", steps=steps, rule=rule)
        return abs(float(found.values.sum()) - whole)

    coarse, fine = error(32), error(64)
    assert fine < 0.02 * abs(whole)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_a_path_of_two_edges_divides_its_effect():
    """On a linear model without heads, input -> m0 -> logits: each edge of the path gets half."""
    model = linear(n_layers=1)
    model.blocks[0].attn.W_O.data.zero_()
    graph, task = TensorGraph.from_model(model), random_task(model)
    shares = attribute(model, graph, task, method="mask-ig")
    exact = attribute(model, graph, task, method="exact")
    for edge in ("input->m0", "m0->logits"):
        assert abs(exact[edge]) > 0.1
        assert shares[edge] == pytest.approx(exact[edge] / 2, abs=1e-9)
    assert shares["input->logits"] == pytest.approx(exact["input->logits"], abs=1e-9)


# -- information-flow --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", HOOKED)
def test_information_flow_is_the_loop_over_tokens(shape):
    model, graph, task = setting(shape)
    ours = attribute(model, graph, task, method="information-flow").values
    close(ours, information_flow(model, graph, task))
    into = graph.dense(ours.double()).sum(0)
    close(into, torch.ones_like(into), 1e-9)  # each reader's shares are a whole


def test_information_flow_needs_no_metric_and_grows_connected_circuits():
    model, graph, task = setting("llama")

    def never(logits, targets):
        raise AssertionError("the metric was asked for")

    scores = attribute(model, graph, task, method="information-flow", metric=never)
    assert scores.values.min() >= 0
    grown = prune.best_first(scores, 12)
    assert prune.drop_dead_nodes(grown) == grown


def test_a_reader_of_nothing_has_no_shares():
    model, graph, task = setting("no-norm")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("unembed"):
                parameter.zero_()
    assert (attribute(model, graph, task, method="information-flow").values == 0).all()


# -- features ----------------------------------------------------------------------------------

OUTPUTS = [("z", 0, {}), ("mlp_in", 0, {"writes": "mlp_out", "skip": True}), ("mlp_out", 1, {})]
STREAM = [("resid_mid", 0, {}), ("resid_post", 0, {"gate": "topk"}), ("mlp_out", 1, {})]


def with_features(saes, *, through=False):
    model = HOOKED["llama"]()
    made = [dictionary(model, reads, layer, **more) for reads, layer, more in saes]
    return model, TensorGraph.from_model(model, saes=made, through=through), random_task(model, n=2)


@pytest.mark.parametrize("through", [False, True])
def test_mask_ig_of_features(through):
    model, graph, task = with_features(OUTPUTS, through=through)
    ours = attribute(model, graph, task, method="mask-ig", steps=1).values
    close(ours, mask_gradients(model, graph, task, logit_diff, 0.5, "corrupt"))


def test_mask_ig_does_not_cut_the_stream():
    model, graph, task = with_features(STREAM)
    with pytest.raises(OptionError, match="of one stream, and mid0 cuts it in two"):
        attribute(model, graph, task, method="mask-ig")


@pytest.mark.parametrize("saes", [OUTPUTS, STREAM], ids=["outputs", "stream"])
def test_information_flow_of_features(saes):
    model, graph, task = with_features(saes)
    ours = attribute(model, graph, task, method="information-flow").values
    close(ours, information_flow(model, graph, task))


# -- both --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mask-ig", "information-flow"])
@pytest.mark.parametrize("shape", sorted(TWINS))
def test_both_kinds_of_model_give_the_same(shape, method):
    hooked, bridge = TWINS[shape](dtype=torch.float64)
    task = random_task(hooked, n=2)
    one, other = (
        attribute(model, TensorGraph.from_model(model), task, method=method).values
        for model in (hooked, bridge)
    )
    close(other, one, 1e-6)


@pytest.mark.parametrize("method", ["mask-ig", "information-flow"])
def test_spans_add_up_and_nodes_are_refused(method):
    model, graph, task = setting("gpt2")
    whole = attribute(model, graph, task, method=method).values
    parts = attribute_spans(model, graph, task, {"end": -1, "start": 0}, method=method)
    close(sum(parts[name].values for name in parts), whole)
    with pytest.raises(OptionError, match=f"'{method}' scores edges and spans only, no nodes"):
        attribute_nodes(model, graph, task, method=method)
