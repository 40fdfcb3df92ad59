"""atp-star against a real patch of every query and every key, and GradDrop against its passes."""

from __future__ import annotations

import pytest
import torch

from reference_shares import atp_star
from sae_circuits.attribution import attribute, attribute_nodes, attribute_spans
from sae_circuits.attribution.methods import atp_star as module
from sae_circuits.errors import OptionError
from sae_circuits.graph import TensorGraph
from sae_circuits.metrics import logit_diff
from shapes import HOOKED, TWINS, hooked, random_task
from small_dictionaries import dictionary


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def setting(shape, *, split_kv=False):
    model = HOOKED[shape]()
    graph = TensorGraph.from_model(model, split_kv=split_kv)
    return model, graph, random_task(model, n=2, lengths=[6, 4])


@pytest.mark.parametrize("shape", HOOKED)
@pytest.mark.parametrize("grad_drop", [False, True])
def test_queries_and_keys_are_really_patched(shape, grad_drop):
    model, graph, task = setting(shape)
    ours = attribute(model, graph, task, method="atp-star", grad_drop=grad_drop).values
    close(ours, atp_star(model, graph, task, logit_diff, grad_drop=grad_drop))


@pytest.mark.parametrize("grad_drop", [False, True])
def test_keys_read_apart(grad_drop):
    model, graph, task = setting("qwen3", split_kv=True)
    ours = attribute(model, graph, task, method="atp-star", grad_drop=grad_drop).values
    close(ours, atp_star(model, graph, task, logit_diff, grad_drop=grad_drop))


@pytest.mark.parametrize("intervention", ["zero", "mean"])
def test_other_interventions(intervention):
    model, graph, task = setting("pythia")
    ours = attribute(model, graph, task, method="atp-star", intervention=intervention).values
    close(ours, atp_star(model, graph, task, logit_diff, intervention=intervention))


@pytest.mark.parametrize("grad_drop", [False, True])
def test_features_as_writers(grad_drop):
    model = HOOKED["gpt2"]()
    saes = [dictionary(model, reads, 0) for reads in ("z", "mlp_out", "resid_post")]
    graph, task = TensorGraph.from_model(model, saes=saes), random_task(model, n=2)
    ours = attribute(model, graph, task, method="atp-star", grad_drop=grad_drop).values
    slow = atp_star(model, graph, task, logit_diff, grad_drop=grad_drop)
    close(ours, slow)


def test_chunks_change_nothing(monkeypatch):
    model, graph, task = setting("gemma2")
    whole = attribute(model, graph, task, method="atp-star", grad_drop=True).values
    monkeypatch.setattr(module, "PATCH_BYTES", 1)
    close(attribute(model, graph, task, method="atp-star", grad_drop=True).values, whole)


@pytest.mark.parametrize("shape", sorted(TWINS))
def test_both_kinds_of_model_give_the_same(shape):
    one, bridge = TWINS[shape](dtype=torch.float64)
    task = random_task(one, n=2)
    found = [
        attribute(model, TensorGraph.from_model(model), task, method="atp-star").values
        for model in (one, bridge)
    ]
    close(found[1], found[0], 1e-6)


def test_all_other_readers_score_as_in_eap():
    model, graph, task = setting("gpt2")
    ours = attribute(model, graph, task, method="atp-star")
    eap = attribute(model, graph, task, method="eap")
    for edge in graph.edges:
        if edge.dest.port not in ("q", "k"):
            assert ours[edge] == pytest.approx(eap[edge], abs=1e-12)


def test_what_it_is_not_defined_for():
    model, graph, task = setting("gpt2")
    with pytest.raises(OptionError, match="'atp-star' scores edges only, no nodes"):
        attribute_nodes(model, graph, task, method="atp-star")
    with pytest.raises(OptionError, match="'atp-star' scores edges only, no spans"):
        attribute_spans(model, graph, task, method="atp-star")
    shallow = hooked("gpt2", n_layers=1)
    with pytest.raises(OptionError, match="skips one layer of several, and 'tiny-gpt2' has 1"):
        attribute(shallow, TensorGraph.from_model(shallow), task, method="atp-star", grad_drop=True)
