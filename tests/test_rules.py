"""Methods that change the backward pass, against their rules written out and the sums they keep."""

from __future__ import annotations

import pytest
import torch

from reference_attribution import reference_scores
from reference_rules import gim_rules, relp_rules
from sae_circuits.attribution import attribute
from sae_circuits.graph import TensorGraph
from sae_circuits.metrics import logit_diff
from shapes import BRIDGED, HOOKED, HOOKED_CONFIGS, TWINS, hooked, linear, random_task

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
