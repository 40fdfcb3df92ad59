"""ACDC against a plain search that runs the whole circuit at every visit, and on known circuits."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from sae_circuits.ablation import run_circuits
from sae_circuits.errors import GraphError, OptionError
from sae_circuits.graph import Circuit, TensorGraph
from sae_circuits.metrics import get
from sae_circuits.testing import truth
from shapes import HOOKED, random_task
from small_dictionaries import dictionary


def plain_search(model, graph, task, *, threshold, metric, keep, intervention, order):
    """Conmy et al.'s algorithm 1 with a full run of the circuit at each visit."""

    def value(circuit):
        values = run_circuits(model, [circuit], task, get(metric), intervention=intervention)
        return float(values.double().mean())

    left, scores = Circuit.full(graph), torch.zeros(graph.n_edges, dtype=torch.float64)
    now = value(left)
    for dest in reversed(range(graph.n_dest)):
        ids = list(range(int(graph.offsets[dest]), int(graph.offsets[dest + 1])))
        for edge in ids if order == "forward" else reversed(ids):
            mask = left.mask.clone()
            mask[edge] = False
            new = value(left.with_mask(mask))
            if keep(new - now) < threshold:
                left, now = left.with_mask(mask), new
            else:
                scores[edge] = new - now
    return left, scores


def both(model, graph, task, *, threshold, metric, by, intervention, order):
    """What the plain search and the method find."""
    keep = {"abs": abs, "hurt": lambda x: x, "help": lambda x: -x}[by]
    how = {"threshold": threshold, "metric": metric, "intervention": intervention, "order": order}
    expected, changes = plain_search(model, graph, task, keep=keep, **how)
    assert 3 < len(expected) < graph.n_edges - 3  # else it would be no test
    scores = sc.attribute(model, graph, task, method="acdc", by=by, batch_size=2, **how)
    torch.testing.assert_close(scores.values, changes, rtol=1e-8, atol=1e-10)
    found = sc.prune.threshold(scores, threshold, by=by)
    assert found == expected
    assert found == Circuit(graph, scores.values != 0)


@pytest.mark.parametrize(
    ("shape", "metric", "by", "intervention", "order", "threshold"),
    [
        ("gpt2", "logit_diff", "abs", "corrupt", "reverse", 0.3),
        ("llama", "kl", "hurt", "corrupt", "reverse", 0.02),
        ("gemma2", "kl", "hurt", "mean", "forward", 0.02),
        ("pythia", "logit_diff", "help", "zero", "reverse", 0.2),
    ],
)
def test_it_finds_what_a_plain_search_finds(shape, metric, by, intervention, order, threshold):
    grouped = {"n_key_value_heads": 1} if shape in ("llama", "gemma2") else {}
    model = HOOKED[shape](n_heads=2, **grouped)
    both(
        model,
        TensorGraph.from_model(model),
        random_task(model, n=3, lengths=(5, 4, 5), pos=5),
        threshold=threshold,
        metric=metric,
        by=by,
        intervention=intervention,
        order=order,
    )


@pytest.mark.parametrize(
    "places",
    [
        [("mlp_in", 0, {"writes": "mlp_out", "skip": True, "gate": "topk"}), ("z", 1, {})],
        [("resid_mid", 0, {}), ("mlp_out", 1, {"gate": "threshold"})],
    ],
)
def test_features_are_searched_as_a_plain_search_does(places):
    model = HOOKED["gpt2"](n_heads=1)
    saes = [dictionary(model, reads, layer, n=3, **more) for reads, layer, more in places]
    graph = TensorGraph.from_model(model, saes=saes)
    both(
        model,
        graph,
        random_task(model, n=2, pos=4),
        threshold=0.05,
        metric="logit_diff",
        by="abs",
        intervention="corrupt",
        order="reverse",
    )


def test_it_finds_the_circuit_that_was_built_in():
    known = truth("induction")
    model, task, circuit = known.model, known.task, known.circuit
    graph = circuit.graph
    for metric, by in (("kl", "hurt"), ("logit_diff", "abs")):
        scores = sc.attribute(
            model, graph, task, method="acdc", metric=metric, by=by, threshold=0.01
        )
        assert sc.prune.threshold(scores, 0.01, by=by) == circuit
        assert sc.prune.top_n(scores, len(circuit)) == circuit


def test_orders_are_seeded_and_the_model_is_left_as_it_was():
    model = HOOKED["gpt2"]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2, pos=4)
    hooks = [len(m._forward_hooks) for m in model.modules()]
    options = {"method": "acdc", "threshold": 0.3, "order": "random"}
    first, again = (sc.attribute(model, graph, task, seed=3, **options) for _ in range(2))
    assert torch.equal(first.values, again.values)
    assert first.provenance.options["seed"] == 3
    assert hooks == [len(m._forward_hooks) for m in model.modules()]


@pytest.mark.parametrize("threshold", [-0.1, 0, float("nan"), float("inf")])
def test_a_threshold_that_is_none(threshold):
    model = HOOKED["gpt2"]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2)
    with pytest.raises(OptionError, match=r"threshold=.*above 0"):
        sc.attribute(model, graph, task, method="acdc", threshold=threshold)


def test_other_bad_input():
    model = HOOKED["gpt2"]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2)
    with pytest.raises(OptionError, match="order='up'"):
        sc.attribute(model, graph, task, method="acdc", order="up")
    with pytest.raises(GraphError, match="'most'"):
        sc.attribute(model, graph, task, method="acdc", by="most")
    with pytest.raises(GraphError, match="part of the model"):
        sc.attribute(model, graph.subgraph(["input", "a0.h0", "logits"]), task, method="acdc")
    with pytest.raises(OptionError, match="all examples together"):
        sc.attribute(model, graph, task, method="acdc", keep="example")
    for verb in (sc.attribute_nodes, sc.attribute_spans):
        with pytest.raises(OptionError, match="acdc"):
            verb(model, graph, task, method="acdc")
