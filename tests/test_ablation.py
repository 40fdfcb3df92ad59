"""Circuits run for real, against the slow reference and the identities, on every shape."""

from __future__ import annotations

import pytest
import torch

from reference_ablation import reference_logits
from sae_circuits.ablation import ablate, clean_logits, run_circuits
from sae_circuits.ablation.interventions import partners
from sae_circuits.graph import Circuit, TensorGraph
from shapes import BRIDGED, HOOKED, HOOKED_CONFIGS, random_task

INTERVENTIONS = ["corrupt", "zero", "mean", "mean-positional", "resample"]
GROUPED = [name for name, cfg in HOOKED_CONFIGS.items() if "n_key_value_heads" in cfg]
MODELS = {
    **{f"hooked-{k}": v for k, v in HOOKED.items()},
    **{f"bridge-{k}": v for k, v in BRIDGED.items()},
}


def random_circuit(graph, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Circuit(graph, torch.rand(graph.n_edges, generator=generator) < share)


def problem(shape, *, split_kv=False, n=4, lengths=(6, 5, 6, 5)):
    model = HOOKED[shape]()
    graph = TensorGraph.from_model(model, split_kv=split_kv)
    return model, graph, random_task(model, n=n, lengths=lengths)


@pytest.mark.parametrize("name", MODELS)
def test_full_circuit_is_the_model_and_the_empty_one_the_corrupt_run(name):
    model = MODELS[name]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=3, lengths=[6, 5, 6])
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if "hooked" in name else {"rtol": 2e-5, "atol": 2e-5}
    clean, corrupt = clean_logits(model, task), clean_logits(model, task.swapped())
    for direction in ("noising", "denoising"):
        full = ablate(model, Circuit.full(graph), task, direction=direction)
        empty = ablate(model, Circuit.empty(graph), task, direction=direction)
        torch.testing.assert_close(full, clean, **tolerance)
        torch.testing.assert_close(empty, corrupt, **tolerance)


@pytest.mark.parametrize("shape", HOOKED)
@pytest.mark.parametrize("intervention", INTERVENTIONS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_random_circuits_equal_the_reference(shape, intervention, share):
    model, graph, task = problem(shape)
    circuit = random_circuit(graph, share)
    permutation = partners(task) if intervention == "resample" else None
    ours = ablate(model, circuit, task, intervention=intervention)
    slow = reference_logits(
        model, circuit, task, intervention=intervention, permutation=permutation
    )
    torch.testing.assert_close(ours, slow, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shape", HOOKED)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_denoising_equals_the_reference(shape, share):
    model, graph, task = problem(shape)
    circuit = random_circuit(graph, share)
    ours = ablate(model, circuit, task, direction="denoising")
    slow = reference_logits(model, circuit, task, direction="denoising")
    torch.testing.assert_close(ours, slow, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shape", GROUPED)
@pytest.mark.parametrize("intervention", ["corrupt", "mean"])
def test_split_keys_and_values_equal_the_reference(shape, intervention):
    model, graph, task = problem(shape, split_kv=True)
    circuit = random_circuit(graph, 0.5)
    ours = ablate(model, circuit, task, intervention=intervention)
    slow = reference_logits(model, circuit, task, intervention=intervention)
    torch.testing.assert_close(ours, slow, rtol=1e-8, atol=1e-9)


def test_many_circuits_share_a_run_and_equal_each_alone():
    model, graph, task = problem("gpt2")
    circuits = [random_circuit(graph, share, seed) for seed, share in enumerate((0, 0.3, 0.8, 1))]
    together = run_circuits(model, circuits, task, lambda logits, _: logits, batch_size=3)
    for circuit, logits in zip(circuits, together, strict=True):
        torch.testing.assert_close(logits, ablate(model, circuit, task), rtol=1e-10, atol=1e-11)
