"""`sae-circuits evaluate`: how good a saved circuit is, on any task and model of its graph."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sae_circuits.cli import dictionaries, names, options

if TYPE_CHECKING:
    from sae_circuits.evaluation import Report
Direction = Annotated[
    str,
    typer.Option(
        help="noising: corrupt what is outside; denoising: restore what is in.",
        autocompletion=names.of(names.DIRECTIONS),
    ),
]


def evaluate(
    circuit: Annotated[Path, typer.Argument(help="A circuit.json.")],
    model: options.Model = "demo",
    task: options.TaskName = "ioi",
    task_file: options.TaskFile = None,
    skip: options.Skip = False,
    metric: options.MetricName = "logit_diff",
    intervention: options.Intervention = "corrupt",
    direction: Direction = "noising",
    sae: dictionaries.Sae = None,
    sae_id: dictionaries.SaeId = None,
    sae_kind: dictionaries.SaeKind = None,
    n: options.N = 64,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    memory: options.Memory = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    ray: options.Ray = None,
    workers: options.NWorkers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for the report and its pictures.")
    ] = None,
) -> None:
    """Measure how good a saved circuit is.

    A circuit with features needs the dictionaries that it was found with, by --sae.
    """
    from sae_circuits.cli.folder import SHARDS, begin_in, end_in
    from sae_circuits.evaluation import evaluate as measure
    from sae_circuits.explorer.folder import FILES, write_report
    from sae_circuits.graph import Circuit
    from sae_circuits.io import load

    options.check_names(
        task=task, task_file=task_file, metric=metric, intervention=intervention,
        direction=direction, dtype=dtype, memory=memory,
    )  # fmt: skip
    saes = dictionaries.Dictionaries.of(sae, sae_id, sae_kind)
    saes.check()
    found = load(circuit, Circuit)
    dictionaries.require_given(found, saes)
    if out is not None:
        begin_in(out, FILES)
    opened = partial(options.open_model, model, dtype=dtype)
    with options.workers_of(ray, workers, gpus_per_worker, opened) as shared:
        loaded = opened(device=device)
        found = dictionaries.with_dictionaries(found, saes, options.place_of(loaded))
        prompts = options.open_task(loaded, task, task_file, n, seed, skip=skip)
        report = measure(
            loaded, found, prompts, metric=metric, intervention=intervention,
            direction=direction, batch_size=batch_size, memory=memory, seed=seed,
            workers=shared, folder=None if out is None else out / SHARDS,
        )  # fmt: skip
    typer.echo(table(report))
    if out is not None:
        write_report(report, out, task=prompts)
        end_in(out)
        typer.echo(f"Report: {out / 'report.html'}")


def table(report: Report) -> str:
    """The measures with their intervals, one a line."""
    wide = max(map(len, report.measures)) + 3
    lines = [f"{'measure':<{wide}}{'mean':>10}  95% interval"]
    for name in report.measures:
        low, high = report.interval(name)
        lines.append(f"{name:<{wide}}{getattr(report, name):>10.4f}  [{low:.4f}, {high:.4f}]")
    return "\n".join(lines)
