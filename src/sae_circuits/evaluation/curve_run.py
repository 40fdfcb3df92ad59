"""`curve`: circuits of growing size on the running model, beside random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits import prune
from sae_circuits.errors import OptionError, unknown
from sae_circuits.evaluation.curves import Curve
from sae_circuits.evaluation.measures import (
    FRACTIONS,
    areas,
    percentiles,
    recovered_each,
    resampled_means,
)
from sae_circuits.evaluation.per_example import (
    AnyCircuit,
    Intervening,
    measure,
    provenance,
    require_gap,
)
from sae_circuits.graph import Circuit, Scores, SpanScores
from sae_circuits.graph.given import require_scores
from sae_circuits.metrics import Metric, get, logit_diff
from sae_circuits.shards import Workers
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task

RANDOM = ("size", "degrees")
"""What random circuits can have in common with the circuit that they stand beside."""

Pruner = Callable[..., AnyCircuit]
"""(scores, n, by=...) -> a circuit of n edges, such as `prune.top_n` or `prune.best_first`."""


def curve(
    model: Any,
    scores: Scores | SpanScores[Scores],
    task: Task,
    *,
    metric: str | Metric = logit_diff,
    fractions: Sequence[float] = FRACTIONS,
    by: str = "abs",
    pruner: Pruner = prune.top_n,
    intervention: Intervening = "corrupt",
    direction: str = "noising",
    random: str | Sequence[str] = "size",
    n_random: int = 1,
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> Curve:
    """Faithfulness of the best circuits at growing sizes, beside random ones.

    All of them, and the random ones, share one replacement run. A fraction is rounded down to
    whole edges, as the MIB benchmark does.

    Args:
        scores: of every edge of `TensorGraph.from_model(model)`, or by span; then sizes count pairs
            of a span and an edge.
        fractions: shares of the edges, ascending; by default those of the MIB benchmark.
        by: how to rank edges: "help" for CPR, "abs" for CMD as the benchmark defines them.
        pruner: called as `pruner(scores, n, by=by)`.
        random: what random circuits have in common with the circuit beside them: its "size", or
            the "degrees" of all its nodes (see `prune.random_circuit`), or both.
        n_random: how many to draw of each kind.
        seed: of the random circuits, of the bootstrap, and of `resample`.
        n_bootstrap: how often the examples are resampled for the 95% intervals; the same examples
            at all sizes.
        model, task, metric, intervention, direction, batch_size, memory, workers, folder: as in
            `evaluate`.

    Raises:
        OptionError: fractions that do not ascend from above 0 to at most 1.
        UnknownName: another kind of random circuits.
        GraphError, MetricError, NumericalError: as in `evaluate`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> scores = sc.attribute(model, sc.TensorGraph.from_model(model), task, method="eap")
        >>> found = sc.curve(model, scores, task, fractions=(0.1, 1), random=["size", "degrees"])
        >>> found.n_edges, round(found.faithfulness[-1], 3), len(found.random), len(found.degrees)
        ((47, 479), 1.0, 1, 1)
        >>> found.interval("cpr")[0] < found.cpr < found.interval("cpr")[1]
        True
    """
    metric, kinds = get(metric), _kinds(random)
    require_scores(scores)
    n_spans = len(scores) if isinstance(scores, SpanScores) else 1
    sizes = _sizes(fractions, n_spans * scores.graph.n_edges)
    best = [pruner(scores, n, by=by) for n in sizes]
    draws = {kind: _draws(best, kind, n_random, seed) for kind in kinds}
    value = _per_example(
        model,
        [*best, *(circuit for rows in draws.values() for row in rows for circuit in row)],
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
    clean, corrupt = value[Circuit.full(scores.graph)], value[Circuit.empty(scores.graph)]
    rows = {"kept": _rows([best], value), **{k: _rows(draws[k], value) for k in kinds}}
    band, intervals = _intervals(fractions, rows, clean, corrupt, n_bootstrap, seed)
    return Curve(
        fractions=tuple(fractions),
        n_edges=tuple(sizes),
        values=_means(rows["kept"])[0],
        random_values=_means(rows["size"]) if "size" in rows else (),
        clean=float(clean.mean()),
        corrupt=float(corrupt.mean()),
        by=by,
        provenance=provenance(model, scores, task, metric, intervention, seed),
        degrees_values=_means(rows["degrees"]) if "degrees" in rows else (),
        band=band,
        intervals=intervals,
        examples={"values": rows["kept"][0], "clean": clean, "corrupt": corrupt},
        weighted_edges=tuple(circuit.weighted_edges for circuit in best),
        pruner=getattr(pruner, "__name__", type(pruner).__name__),
    )


# -- parts -----------------------------------------------------------------------------------------


def _kinds(random: str | Sequence[str]) -> tuple[str, ...]:
    kinds = (random,) if isinstance(random, str) else tuple(random)
    for kind in kinds:
        if kind not in RANDOM:
            raise unknown("kind of random circuits", kind, RANDOM)
    return kinds


def _draws(best: Sequence[AnyCircuit], kind: str, n: int, seed: int) -> list[list[AnyCircuit]]:
    """For each draw, a random circuit for each of the best."""
    degrees = kind == "degrees"
    return [
        [prune.random_circuit(circuit, seed=seed + i, degrees=degrees) for circuit in best]
        for i in range(n)
    ]


def _per_example(
    model: Any, circuits: Sequence[AnyCircuit], task: Task, metric: Metric, **ran: Any
) -> dict[AnyCircuit, Float[Tensor, "n"]]:
    """The metric of each circuit, of the empty and of the full one: each different one runs once.

    Raises:
        MetricError: the metric has no gap.
    """
    graph = circuits[0].graph
    full = Circuit.full(graph)  # its value is the clean one, which is measured anyway
    distinct = list(dict.fromkeys(c for c in (Circuit.empty(graph), *circuits) if c != full))
    measured = measure(model, distinct, task, metric, **ran).double()
    require_gap(measured[0, :, 2], measured[0, :, 0], metric)
    return {**dict(zip(distinct, measured[:, :, 0], strict=True)), full: measured[0, :, 2]}


def _rows(
    circuits: Sequence[Sequence[AnyCircuit]], value: Mapping[AnyCircuit, Float[Tensor, "n"]]
) -> list[Float[Tensor, "size n"]]:
    return [torch.stack([value[circuit] for circuit in row]) for row in circuits]


def _means(rows: Sequence[Float[Tensor, "size n"]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row.mean(1).tolist()) for row in rows)


def _intervals(
    fractions: Sequence[float],
    rows: Mapping[str, Sequence[Float[Tensor, "size n"]]],
    clean: Float[Tensor, "n"],
    corrupt: Float[Tensor, "n"],
    n_resamples: int,
    seed: int,
) -> tuple[tuple[tuple[float, float], ...], dict[str, tuple[float, float]]]:
    """The intervals at each size, and of the areas; the random ones' areas are means over draws."""
    table = torch.cat([*(row for of in rows.values() for row in of), clean[None], corrupt[None]])
    means = resampled_means(table.T, n_resamples=n_resamples, seed=seed)
    ends = (means[:, -2:-1], means[:, -1:])
    found = recovered_each(means[:, :-2], *(end.expand_as(means[:, :-2]) for end in ends))
    curves = found.unflatten(1, (-1, len(fractions)))  # [resample, curve, fraction]
    band = tuple(percentiles(column) for column in curves[:, 0].unbind(1))
    intervals: dict[str, tuple[float, float]] = {}
    start = 0
    for kind, of in rows.items():
        some, start = curves[:, start : start + len(of)], start + len(of)
        if not of:
            continue
        prefix = {"kept": "", "size": "random_", "degrees": "degrees_"}[kind]
        for suffix in ("", "_from_zero")[: 2 if kind == "kept" else 1]:
            both = areas(fractions, some, from_zero=bool(suffix))
            for name, area in zip(("cpr", "cmd"), both, strict=True):
                intervals[f"{prefix}{name}{suffix}"] = percentiles(area.mean(1))
    return band, intervals


def _sizes(fractions: Sequence[float], n_edges: int) -> list[int]:
    ascending = all(a < b for a, b in pairwise(fractions))
    if not fractions or not ascending or not 0 < fractions[0] <= fractions[-1] <= 1:
        raise OptionError(
            f"fractions {tuple(fractions)!r}: give shares of the edges that ascend, above 0 and "
            "at most 1"
        )
    return [int(fraction * n_edges) for fraction in fractions]
