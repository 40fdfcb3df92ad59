"""Methods that change the backward pass, against their rules written out and the sums they keep."""

from __future__ import annotations

import pytest
import torch

from reference_attribution import reference_scores
from reference_rules import gim_rules, relp_rules
from sae_circuits.attribution import attribute, attribute_nodes, attribute_spans
from sae_circuits.cache import run
from sae_circuits.errors import OptionError, UnsupportedModel
from sae_circuits.graph import TensorGraph
from sae_circuits.metrics import Targets, logit_diff
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.backward import BackwardRules
from shapes import BRIDGED, HOOKED, HOOKED_CONFIGS, TWINS, hooked, linear, random_task
from small_dictionaries import dictionary

GROUPED = [name for name, cfg in HOOKED_CONFIGS.items() if "n_key_value_heads" in cfg]


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def reference(rules, model, graph, task, **more):
    with rules:
        return reference_scores(model, graph, task, logit_diff, "eap", **more)


@pytest.mark.parametrize("shape", HOOKED)
@pytest.mark.parametrize("constant", [False, True])
def test_relp_is_autograd_through_its_rules(shape, constant):
    model = HOOKED[shape]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2, lengths=[6, 4])
    ours = attribute(model, graph, task, method="relp", constant_patterns=constant).values
    slow = reference(relp_rules(constant_patterns=constant), model, graph, task)
    close(ours, slow)
    differs = (ours - attribute(model, graph, task, method="eap").values).abs().max()
    if shape == "no-norm" and not constant:  # a relu's ratio is its slope
        assert differs < 1e-12
    else:
        assert differs > 0.05 * ours.abs().max()


@pytest.mark.parametrize("shape", HOOKED)
def test_gim_is_autograd_through_its_rules(shape):
    model = HOOKED[shape]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2, lengths=[6, 4])
    ours = attribute(model, graph, task, method="gim").values
    close(ours, reference(gim_rules(), model, graph, task))


@pytest.mark.parametrize("shape", GROUPED)
def test_keys_read_apart_have_the_same_rules(shape):
    model = HOOKED[shape]()
    graph, task = TensorGraph.from_model(model, split_kv=True), random_task(model, n=2)
    for method, rules in (("relp", relp_rules()), ("gim", gim_rules())):
        ours = attribute(model, graph, task, method=method).values
        close(ours, reference(rules, model, graph, task))


# -- what the rules keep -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", sorted(BRIDGED))
@pytest.mark.parametrize("method", ["relp", "gim"])
def test_both_kinds_of_model_give_the_same(shape, method):
    one, bridge = TWINS[shape](dtype=torch.float64)
    task = random_task(one, n=2)
    found = [
        attribute(model, TensorGraph.from_model(model), task, method=method).values
        for model in (one, bridge)
    ]
    close(found[1], found[0], 1e-6)


@pytest.mark.parametrize("kind", [HOOKED, BRIDGED], ids=["hooked", "bridge"])
@pytest.mark.parametrize("shape", ["gpt2", "gemma2", "qwen3"])
def test_forward_values_stay_exactly_the_models(kind, shape):
    adapter = Adapter.of(kind[shape]())
    task = random_task(adapter.model)

    def values(rules):
        made = run(adapter, task.clean, task.position, grad=True, rules=rules, attn_outputs=True)
        reads, outputs = made.reads, made.reads.outputs
        return [made.logits, *made.writes.values.values(), *reads.mlp, *reads.q, *outputs.values()]

    own = values(BackwardRules())
    for rules in (
        BackwardRules(norms_constant=True, ratios_constant=True, halve_products=True),
        BackwardRules(patterns_constant=True),
        BackwardRules(softmax_temperature=2.0, q_scale=0.25, k_scale=0.3, v_scale=0.5),
    ):
        assert all(torch.equal(x, y) for x, y in zip(own, values(rules), strict=True))


def test_relp_is_exact_on_a_linear_model_and_gim_halves_its_values():
    model = linear()
    graph, task = TensorGraph.from_model(model), random_task(model)
    exact = attribute(model, graph, task, method="exact")
    close(attribute(model, graph, task, method="relp").values, exact.values)
    gim = attribute(model, graph, task, method="gim")
    for edge in graph.edges:
        if edge.dest.kind == "head" and edge.dest.layer == 1:
            share = 0.5 if edge.dest.port == "v" else 1.0  # the rest is 0: patterns are constant
            assert gim[edge] == pytest.approx(share * exact[edge], abs=1e-9)
    assert max(abs(exact[e]) for e in graph.edges if e.dest.name == "a1.h0<v>") > 1e-2


@pytest.mark.parametrize("shape", ["gpt2", "llama", "gemma2", "pythia"])
def test_relp_conserves_what_the_logits_hold(shape):
    """Without biases the model is linear in its input, given all that relp holds constant.

    With nothing in the place of what is written, the edges that leave the input take away the whole
    metric, a linear one, and so do those that enter the logits.
    """
    model = hooked(shape, output_logits_soft_cap=-1.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.rsplit(".", 1)[-1].lstrip("_").startswith("b"):
                parameter.zero_()
    graph, task = TensorGraph.from_model(model), random_task(model, lengths=[6, 4, 5])
    rows = torch.arange(len(task))
    logits = model(task.clean)[rows, task.position].detach()
    whole = float(logit_diff(logits, Targets.of(task, logits)).mean())
    assert abs(whole) > 0.05
    for how in ({"constant_patterns": True}, {}):
        scores = attribute(model, graph, task, method="relp", intervention="zero", **how)
        dense = graph.dense(scores.values)
        assert float(dense[:, -1].sum()) == pytest.approx(-whole, abs=1e-9)
        if how:  # else patterns take a part
            assert float(dense[0].sum()) == pytest.approx(-whole, abs=1e-9)


def test_a_temperature_of_one_and_no_scales_leave_the_norms_rule_alone():
    model = HOOKED["no-norm"]()  # no norm, and no gated product: nothing is left of gim
    graph, task = TensorGraph.from_model(model), random_task(model)
    plain = {"temperature": 1.0, "q_scale": 1.0, "k_scale": 1.0, "v_scale": 1.0}
    gim = attribute(model, graph, task, method="gim", **plain)
    close(gim.values, attribute(model, graph, task, method="eap").values)


@pytest.mark.parametrize("method", ["relp", "gim"])
def test_nodes_and_spans_are_sums_of_edges(method):
    model = HOOKED["gemma2"]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2, lengths=[6, 4])
    edges = attribute(model, graph, task, method=method)
    nodes = attribute_nodes(model, graph, task, method=method)
    close(nodes.values.double(), graph.dense(edges.values).sum(1).double())
    parts = attribute_spans(model, graph, task, {"end": -1}, method=method)
    close(sum(parts[name].values for name in parts), edges.values)


# -- features ----------------------------------------------------------------------------------

SETS = {
    "transcoders": [
        ("mlp_in", 0, {"writes": "mlp_out", "skip": True}),
        ("mlp_in", 1, {"writes": "mlp_out", "gate": "topk"}),
    ],
    "others": [("z", 0, {}), ("resid_mid", 0, {"gate": "topk"}), ("mlp_out", 1, {"scaled": True})],
}


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("method", ["relp", "gim"])
def test_graphs_with_features(which, method):
    model = HOOKED["llama"]()
    saes = [dictionary(model, reads, layer, **more) for reads, layer, more in SETS[which]]
    graph, task = TensorGraph.from_model(model, saes=saes), random_task(model, n=2)
    ours = attribute(model, graph, task, method=method).values
    rules = relp_rules() if method == "relp" else gim_rules()
    close(ours, reference(rules, model, graph, task))


def test_features_that_read_through_a_component_are_refused():
    model = HOOKED["gpt2"]()
    graph = TensorGraph.from_model(model, saes=[dictionary(model, "mlp_out", 0)], through=True)
    with pytest.raises(OptionError, match="m0's features read the stream through a component"):
        attribute(model, graph, random_task(model), method="relp")


# -- what is refused ---------------------------------------------------------------------------


def test_a_temperature_of_zero():
    model = HOOKED["gpt2"]()
    with pytest.raises(OptionError, match="temperature=0: give a number above 0"):
        attribute(
            model, TensorGraph.from_model(model), random_task(model), method="gim", temperature=0
        )


def test_an_mlp_with_a_norm_inside():
    model = hooked("gpt2", act_fn="solu_ln")
    graph, task = TensorGraph.from_model(model), random_task(model)
    with pytest.raises(UnsupportedModel, match=r"MLP of layer 0 .* more than an activation"):
        attribute(model, graph, task, method="relp")


def test_a_pattern_that_is_no_softmax_of_the_scores():
    model = HOOKED["gpt2"]()
    graph, task = TensorGraph.from_model(model), random_task(model)
    attribute(model, graph, task, method="gim")
    model.blocks[1].attn.hook_attn_scores.register_forward_hook(lambda m, args, out: out.clone())
    attribute(model, graph, task, method="gim")  # a copy of the scores still are the scores
    own = model.blocks[1].attn.forward

    def doubled(*args, **kwargs):
        point = model.blocks[1].attn.hook_pattern
        handle = point.register_forward_pre_hook(lambda m, args: (args[0] / 2,))
        try:
            return own(*args, **kwargs)
        finally:
            handle.remove()

    model.blocks[1].attn.forward = doubled
    with pytest.raises(UnsupportedModel, match="the attention pattern of layer 1 is not the soft"):
        attribute(model, graph, task, method="gim")
