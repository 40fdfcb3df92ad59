"""`evaluate`: one circuit on the running model, turned into measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_circuits.evaluation.measures import percentiles, recovered_each, resampled_means
from sae_circuits.evaluation.per_example import Intervening, measure, provenance, require_gap
from sae_circuits.evaluation.report import Report
from sae_circuits.graph import Circuit, SpanCircuit
from sae_circuits.graph.given import require_circuit
from sae_circuits.metrics import Metric, get, logit_diff
from sae_circuits.prune import random_circuit
from sae_circuits.shards import Workers
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task

RATIOS = {
    "faithfulness": "circuit",
    "completeness": "complement",
    "faithfulness_errors_kept": "errors_kept",
    "faithfulness_errors_removed": "errors_removed",
    "faithfulness_random": "random",
    "faithfulness_degrees": "degrees",
}


def evaluate(
    model: Any,
    circuit: Circuit | SpanCircuit,
    task: Task,
    *,
    metric: str | Metric = logit_diff,
    intervention: Intervening = "corrupt",
    direction: str = "noising",
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    n_random: int = 0,
    n_bootstrap: int = 1000,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> Report:
    """How much of what the model does a circuit does alone.

        faithfulness = (m(circuit) - m(none)) / (m(all) - m(none))

    with every edge outside the circuit really intervened on; completeness is the same for the
    complement. The metric and the accuracy are reported per example and in the mean. Where the
    graph has error nodes, the circuit is also run with all of their edges and with none; where
    random circuits are asked for, some of equal size and some of equal degrees run beside it.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        circuit: of `TensorGraph.from_model(model)`, at all positions or by span.
        task: the prompts.
        metric: one number per example from the logits, or a name (see `sae_circuits.metrics`).
        intervention, direction, batch_size, memory, seed: see `ablate`. `seed` is also that of
            the bootstrap and of random circuits.
        n_random: how many random circuits to draw of each kind (see `prune.random_circuit`); what
            is reported of them is the mean over draws.
        n_bootstrap: how often the examples are resampled for the 95% intervals.
        workers, folder: as in `attribute`.

    Raises:
        GraphError: a circuit of another model's graph.
        MetricError: a metric that is the same on the clean and on the corrupt run, or not one
            number per example.
        NumericalError: a metric that is not finite, with the example.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> circuit = sc.Circuit.full(sc.TensorGraph.from_model(model))
        >>> report = sc.evaluate(model, circuit, task)
        >>> round(report.faithfulness, 3), round(report.completeness, 3)
        (1.0, 0.0)
    """
    metric = get(metric)
    require_circuit(circuit)
    every = {"circuit": circuit, "complement": ~circuit, "corrupt": Circuit.empty(circuit.graph)}
    if circuit.graph.has_errors:
        every["errors_kept"] = circuit.with_errors()
        every["errors_removed"] = circuit.without_errors()
    draws = {
        name: [random_circuit(circuit, seed=seed + i, degrees=degrees) for i in range(n_random)]
        for name, degrees in (("random", False), ("degrees", True))
    }
    measured = measure(
        model,
        [*every.values(), *draws["random"], *draws["degrees"]],
        task,
        metric,
        intervention=intervention,
        direction=direction,
        batch_size=batch_size,
        memory=memory,
        seed=seed,
        workers=workers,
        folder=folder,
    )
    found = dict(zip(every, measured, strict=False))
    if n_random:
        drawn = measured[len(every) :].unflatten(0, (2, n_random)).mean(1)
        found |= dict(zip(draws, drawn, strict=True))
    examples = {name: rows[:, 0] for name, rows in found.items()}
    examples |= {"accuracy": found["circuit"][:, 1], "corrupt_accuracy": found["corrupt"][:, 1]}
    examples |= {"clean": found["circuit"][:, 2], "clean_accuracy": found["circuit"][:, 3]}
    require_gap(examples["clean"], examples["corrupt"], metric)
    for ratio, of in _ratios(examples).items():
        examples[ratio] = recovered_each(examples[of], examples["clean"], examples["corrupt"])
    return Report(
        of=circuit,
        examples=examples,
        intervals=_intervals(examples, n_bootstrap, seed),
        provenance=provenance(
            model, circuit.scores, task, metric, intervention, seed, direction=direction
        ),
    )


def _ratios(examples: dict[str, Tensor]) -> dict[str, str]:
    """The ratios whose circuit was run."""
    return {ratio: of for ratio, of in RATIOS.items() if of in examples}


def _intervals(
    examples: dict[str, Tensor], n_resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    names = [name for name in examples if name not in RATIOS]
    columns = torch.stack([examples[name] for name in names], 1)
    drawn = resampled_means(columns, n_resamples=n_resamples, seed=seed).unbind(1)
    means = dict(zip(names, drawn, strict=True))
    found = {name: percentiles(values) for name, values in means.items()}
    for ratio, of in _ratios(examples).items():
        shares = recovered_each(means[of], means["clean"], means["corrupt"])
        found[ratio] = percentiles(shares)
    return found
