"""Runs with a mask for every edge: circuits where masks are 0 and 1, and slopes by differences."""

from __future__ import annotations

import pytest
import torch

from sae_circuits.ablation import ablate
from sae_circuits.ablation.interventions import Intervention
from sae_circuits.ablation.soft import Bus, Soft
from sae_circuits.ablation.sweep import Sweep
from sae_circuits.cache import run
from sae_circuits.graph import Circuit, TensorGraph
from sae_circuits.metrics import Targets, kl
from sae_circuits.models.adapter import Adapter
from shapes import BRIDGED, HOOKED, random_task


def soft(model, graph, task, intervention="corrupt"):
    """A run of the whole task as one batch, and its targets."""
    adapter = Adapter.of(model)
    prepared = Intervention.prepare(adapter, task, intervention, batch_size=len(task))
    (batch,) = prepared.task.batches(len(task))
    now = run(adapter, batch.clean, batch.position)
    sweep = Sweep(
        adapter=adapter,
        graph=graph,
        start=now.writes["input"],
        replacement=prepared.writes(adapter, batch),
        is_run=prepared.is_run,
        calls=now.calls,
        position=batch.position,
    )
    return Soft(sweep, Bus.of(graph.n_src, sweep.start)), Targets.of(batch, now.logits)


def random_masks(graph, seed=0):
    return torch.rand(
        graph.n_edges, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize("shape", HOOKED)
@pytest.mark.parametrize("intervention", ["corrupt", "mean"])
def test_masks_of_0_and_1_are_a_circuit(shape, intervention):
    model = HOOKED[shape]()
    graph = TensorGraph.from_model(model)
    task = random_task(model, n=3, lengths=(6, 5, 6))
    circuit = Circuit(graph, random_masks(graph) < 0.5)
    masked, _ = soft(model, graph, task, intervention)
    with masked.sweep.adapter.frozen():
        found = masked.logits(circuit.mask.double())
    expected = ablate(model, circuit, task, intervention=intervention)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", ["llama", "gemma2"])
def test_keys_and_values_of_each_query_head(shape):
    model = HOOKED[shape]()
    graph = TensorGraph.from_model(model, split_kv=True)
    task = random_task(model, n=2)
    circuit = Circuit(graph, random_masks(graph) < 0.6)
    masked, _ = soft(model, graph, task)
    with masked.sweep.adapter.frozen():
        found = masked.logits(circuit.mask.double())
    torch.testing.assert_close(found.detach(), ablate(model, circuit, task), rtol=1e-10, atol=1e-10)


def test_a_bridge_runs_with_masks_too():
    model = BRIDGED["llama"]()
    graph, task = TensorGraph.from_model(model), random_task(model, n=2)
    circuit = Circuit(graph, random_masks(graph) < 0.5)
    masked, _ = soft(model, graph, task)
    with masked.sweep.adapter.frozen():
        found = masked.logits(circuit.mask.float())
    torch.testing.assert_close(found.detach(), ablate(model, circuit, task), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", HOOKED)
def test_slopes_of_masks_are_those_of_differences(shape):
    model = HOOKED[shape]()
    graph = TensorGraph.from_model(model)
    masked, targets = soft(model, graph, random_task(model, n=2, lengths=(6, 5)))
    masks = random_masks(graph).requires_grad_()

    def loss(values):
        return kl(masked.logits(values), targets).sum()

    with masked.sweep.adapter.frozen():
        (slopes,) = torch.autograd.grad(loss(masks), masks)
        for seed in range(3):  # along random directions, and along single edges
            along = torch.randn_like(masks, generator=torch.Generator().manual_seed(seed))
            if seed == 2:
                along = torch.zeros_like(masks)
                along[slopes.abs().argmax()] = 1.0
            with torch.no_grad():
                up, down = (loss(masks + step * along) for step in (1e-5, -1e-5))
            expected = float(up - down) / 2e-5
            assert float(slopes @ along) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kept", [0, 20_000, 512 << 20])
def test_some_tokens_at_a_time_give_the_same_whatever_is_kept(monkeypatch, kept):
    model = HOOKED["gpt2"]()
    graph = TensorGraph.from_model(model)
    masked, targets = soft(model, graph, random_task(model, n=3))

    def slopes():
        masks = random_masks(graph).requires_grad_()
        with masked.sweep.adapter.frozen():
            return torch.autograd.grad(kl(masked.logits(masks), targets).sum(), masks)[0]

    whole = slopes()
    monkeypatch.setattr("sae_circuits.ablation.soft.MIX_BYTES", 3 * 8 * 20 * 12)
    monkeypatch.setattr("sae_circuits.ablation.soft.KEEP_BYTES", kept)
    torch.testing.assert_close(slopes(), whole, rtol=1e-10, atol=1e-12)
