"""`evaluate` one circuit, and the `curve` of many: runs of the model, turned into measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits import prune
from sae_circuits.ablation import run_circuits
from sae_circuits.errors import MetricError, NumericalError, OptionError
from sae_circuits.evaluation.measures import FRACTIONS, bootstrap, recovered, recovered_each
from sae_circuits.evaluation.report import Curve, Report
from sae_circuits.graph import Circuit, Provenance, Scores, SpanCircuit, SpanScores
from sae_circuits.metrics import Metric, Targets, accuracy, get, logit_diff, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.provenance import provenance_of
from sae_circuits.tasks import Task

AnyCircuit = Circuit | SpanCircuit
Pruner = Callable[..., AnyCircuit]
"""(scores, n, by=...) -> a circuit of n edges, such as `prune.top_n` or `prune.best_first`."""

RATIOS = {
    "faithfulness": "circuit",
    "completeness": "complement",
    "faithfulness_errors_kept": "errors_kept",
    "faithfulness_errors_removed": "errors_removed",
}


def evaluate(
    model: Any,
    circuit: Circuit | SpanCircuit,
    task: Task,
    *,
    metric: str | Metric = logit_diff,
    intervention: str = "corrupt",
    direction: str = "noising",
    batch_size: int | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> Report:
    """How much of what the model does a circuit does alone.

        faithfulness = (m(circuit) - m(none)) / (m(all) - m(none))

    with every edge outside the circuit really intervened on; completeness is the same for the
    complement. The metric and the accuracy are reported per example and in the mean. Where the
    graph has error nodes, the circuit is also run with all of their edges and with none.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        circuit: of `TensorGraph.from_model(model)`, at all positions or by span.
        task: the prompts.
        metric: one number per example from the logits, or a name (see `sae_circuits.metrics`).
        intervention, direction, batch_size, seed: see `ablate`. `seed` is the bootstrap's too.
        n_bootstrap: how often the examples are resampled for the 95% intervals.

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
    every = {"circuit": circuit, "complement": ~circuit, "corrupt": Circuit.empty(circuit.graph)}
    if circuit.graph.has_errors:
        every["errors_kept"] = circuit.with_errors()
        every["errors_removed"] = circuit.without_errors()
    measured = _measure(
        model,
        list(every.values()),
        task,
        metric,
        intervention=intervention,
        direction=direction,
        batch_size=batch_size,
        seed=seed,
    )
    found = dict(zip(every, measured, strict=True))
    examples = {name: rows[:, 0] for name, rows in found.items()}
    examples |= {"accuracy": found["circuit"][:, 1], "corrupt_accuracy": found["corrupt"][:, 1]}
    examples |= {"clean": found["circuit"][:, 2], "clean_accuracy": found["circuit"][:, 3]}
    _require_gap(examples["clean"], examples["corrupt"], metric)
    for ratio, of in _ratios(examples).items():
        examples[ratio] = recovered_each(examples[of], examples["clean"], examples["corrupt"])
    return Report(
        of=circuit,
        examples=examples,
        intervals=_intervals(examples, n_bootstrap, seed),
        provenance=_provenance(
            model, circuit.scores, task, metric, intervention, seed, direction=direction
        ),
    )


def curve(
    model: Any,
    scores: Scores | SpanScores[Scores],
    task: Task,
    *,
    metric: str | Metric = logit_diff,
    fractions: Sequence[float] = FRACTIONS,
    by: str = "abs",
    pruner: Pruner = prune.top_n,
    intervention: str = "corrupt",
    direction: str = "noising",
    n_random: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
) -> Curve:
    """Faithfulness of the best circuits at growing sizes, beside random ones of the same sizes.

    All of them, and the random ones, share one replacement run. A fraction is rounded down to
    whole edges, as the MIB benchmark does.

    Args:
        scores: of every edge of `TensorGraph.from_model(model)`, or by span; then sizes count pairs
            of a span and an edge.
        fractions: shares of the edges, ascending; by default those of the MIB benchmark.
        by: how to rank edges: "help" for CPR, "abs" for CMD as the benchmark defines them.
        pruner: called as `pruner(scores, n, by=by)`.
        n_random: how many random orders of the edges to draw.
        seed: of the random orders, and of `resample`.
        model, task, metric, intervention, direction, batch_size: as in `evaluate`.

    Raises:
        OptionError: fractions that do not ascend from above 0 to at most 1.
        GraphError, MetricError, NumericalError: as in `evaluate`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> scores = sc.attribute(model, sc.TensorGraph.from_model(model), task, method="eap")
        >>> found = sc.curve(model, scores, task, fractions=(0.1, 1))
        >>> found.n_edges, round(found.faithfulness[-1], 3), len(found.random)
        ((47, 479), 1.0, 1)
    """
    metric = get(metric)
    n_edges = scores.graph.n_edges * (len(scores) if isinstance(scores, SpanScores) else 1)
    graph, sizes = scores.graph, _sizes(fractions, n_edges)
    orders = [scores, *(_random_order(scores, seed + i) for i in range(n_random))]
    ranked: list[list[AnyCircuit]] = [[pruner(scores, n, by=by) for n in sizes]]
    ranked += [[prune.top_n(order, n) for n in sizes] for order in orders[1:]]
    circuits = [Circuit.empty(graph), *(circuit for row in ranked for circuit in row)]
    full = Circuit.full(graph)  # its value is the clean one, which is measured anyway
    distinct = list(dict.fromkeys(c for c in circuits if c != full))
    measured = _measure(
        model,
        distinct,
        task,
        metric,
        intervention=intervention,
        direction=direction,
        batch_size=batch_size,
        seed=seed,
    )
    value = dict(zip(distinct, measured[:, :, 0].double().mean(1).tolist(), strict=True))
    _require_gap(measured[0, :, 2], measured[0, :, 0], metric)
    clean = value[full] = float(measured[0, :, 2].double().mean())
    rows = [tuple(value[circuit] for circuit in row) for row in ranked]
    return Curve(
        fractions=tuple(fractions),
        n_edges=tuple(sizes),
        values=rows[0],
        random_values=tuple(rows[1:]),
        clean=clean,
        corrupt=value[circuits[0]],
        by=by,
        provenance=_provenance(model, scores, task, metric, intervention, seed),
    )


# -- parts -----------------------------------------------------------------------------------------


def _measure(
    model: Any, circuits: Sequence[AnyCircuit], task: Task, metric: Metric, **ran: Any
) -> Float[Tensor, "circuit n 4"]:
    """The metric and the accuracy of each circuit, then those of the whole model, per example.

    Raises:
        MetricError: not one number per example.
        NumericalError: a metric that is not finite.
    """

    def read(logits: Tensor, targets: Targets) -> Float[Tensor, "batch 4"]:
        clean = targets.clean_logits
        columns = [_values(metric, logits, targets), accuracy(logits, targets)]
        columns += [_values(metric, clean, targets), accuracy(clean, targets)]
        return torch.stack([column.double() for column in columns], 1)

    found = run_circuits(model, circuits, task, read, **ran)
    bad = (~found.isfinite()).any(2).nonzero()
    if len(bad):
        which, example = bad[0].tolist()
        raise NumericalError(
            f"metric {metric_name(metric)!r} is not finite for example {example} under a circuit "
            f"of {len(circuits[which]):,} edges: mend the metric, or leave that example out"
        )
    return found


def _values(metric: Metric, logits: Tensor, targets: Targets) -> Tensor:
    values = metric(logits, targets)
    if not isinstance(values, Tensor) or values.shape != (len(logits),):
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise MetricError(
            f"metric {metric_name(metric)!r} returned {got}: one number per example, "
            f"({len(logits)},)"
        )
    return values.detach()


def _require_gap(clean: Tensor, corrupt: Tensor, metric: Metric) -> None:
    """Raise a `MetricError` where faithfulness would divide by zero."""
    try:
        recovered(0.0, clean=float(clean.mean()), corrupt=float(corrupt.mean()))
    except MetricError as error:
        same = bool((recovered_each(clean, clean, corrupt).isnan()).all())
        where = f"on all {len(clean):,} examples" if same else "in the mean, though not on each"
        raise MetricError(f"{metric_name(metric)!r} is constant {where}: {error}") from None


def _ratios(examples: dict[str, Tensor]) -> dict[str, str]:
    """The ratios whose circuit was run."""
    return {ratio: of for ratio, of in RATIOS.items() if of in examples}


def _intervals(
    examples: dict[str, Tensor], n_resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    def interval(names: list[str], statistic: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        columns = torch.stack([examples[name] for name in names], 1)
        return bootstrap(columns, statistic, n_resamples=n_resamples, seed=seed)

    found = {
        name: interval([name], lambda means: means[:, 0]) for name in examples if name not in RATIOS
    }
    for ratio, of in _ratios(examples).items():
        found[ratio] = interval(
            [of, "clean", "corrupt"], lambda means: recovered_each(*means.unbind(1))
        )
    return found


def _sizes(fractions: Sequence[float], n_edges: int) -> list[int]:
    ascending = all(a < b for a, b in pairwise(fractions))
    if not fractions or not ascending or not 0 < fractions[0] <= fractions[-1] <= 1:
        raise OptionError(
            f"fractions {tuple(fractions)!r}: give shares of the edges that ascend, above 0 and "
            "at most 1"
        )
    return [int(fraction * n_edges) for fraction in fractions]


def _random_order(scores: Any, seed: int) -> Any:
    """Scores, by span where those given are, whose `top_n` is a random circuit, nested over n."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(scores, SpanScores):
        shape = scores.stacked.shape
        return scores.with_values(
            torch.randperm(shape.numel(), generator=generator).double().view(shape)
        )
    order = torch.randperm(scores.graph.n_edges, generator=generator)
    return Scores(scores.graph, order.double().to(scores.values.device))


def _provenance(
    model: Any,
    scores: Scores | SpanScores[Scores] | None,
    task: Task,
    metric: Metric,
    intervention: str,
    seed: int,
    **options: Any,
) -> Provenance:
    """What was evaluated and how; the method and its options are those of the scores."""
    of = scores.provenance if scores else Provenance()
    return provenance_of(
        Adapter.of(model),
        task,
        method=of.method,
        metric=metric_name(metric),
        intervention=intervention,
        seed=seed,
        options={**of.options, **options},
    )
