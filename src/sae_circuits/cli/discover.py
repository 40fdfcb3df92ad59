"""`sae-circuits discover`: from a model and a task to a circuit, its picture and its report."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sae_circuits.cli import dictionaries, names, options

Method = Annotated[
    str,
    typer.Option(
        help=f"One of {', '.join(names.METHODS)}.", autocompletion=names.of(names.METHODS)
    ),
]
Pruner = Annotated[
    str,
    typer.Option(
        help="top-n, or best-first: grown from the logits.",
        autocompletion=names.of(names.PRUNERS),
    ),
]
By = Annotated[
    str,
    typer.Option(
        help="Which edges come first: abs (largest), help or hurt.",
        autocompletion=names.of(names.ORDERS),
    ),
]


def discover(
    out: Annotated[Path, typer.Option(help="The folder for all that comes out.")] = Path(
        "discover-run"
    ),
    model: options.Model = "demo",
    task: options.TaskName = "ioi",
    task_file: options.TaskFile = None,
    skip: options.Skip = False,
    method: Method = "eap-ig",
    steps: Annotated[int, typer.Option(min=1, help="Points of integrated gradients.")] = 5,
    metric: options.MetricName = "logit_diff",
    intervention: options.Intervention = "corrupt",
    edges: Annotated[int, typer.Option(min=0, help="How many edges to keep.")] = 200,
    pruner: Pruner = "top-n",
    by: By = "abs",
    neurons: dictionaries.Neurons = None,
    sae: dictionaries.Sae = None,
    sae_id: dictionaries.SaeId = None,
    sae_kind: dictionaries.SaeKind = None,
    features: dictionaries.Features = 200,
    through: dictionaries.Through = False,
    n: options.N = 64,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    memory: options.Memory = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    no_curve: options.NoCurve = False,
    ray: options.Ray = None,
    workers: options.NWorkers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Find a circuit, test it, draw it, and write all to a folder.

    With --sae, heads, MLPs or the stream are split into features, as by --sae demo --sae-id
    mlp_out.0 --features 200 --edges 500: the strongest stay nodes of their own, the others become
    a part of error nodes, and the report says how faithful the circuit is without those.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from sae_circuits.cli.pipeline import Settings, run, summary

    settings = Settings(
        model=model, task=task, task_file=task_file, skip=skip, method=method, steps=steps,
        metric=metric, intervention=intervention, edges=edges, pruner=pruner, by=by,
        neurons=neurons, saes=dictionaries.Dictionaries.of(sae, sae_id, sae_kind),
        features=features, through=through, n=n, seed=seed, device=device, dtype=dtype,
        curve=not no_curve,
    )  # fmt: skip
    load = partial(options.open_model, model, dtype=dtype)
    with options.workers_of(ray, workers, gpus_per_worker, load) as found:
        how = {"batch_size": batch_size, "memory": memory, "overwrite": overwrite}
        report = run(settings, out, sys.argv[1:], workers=found, **how)
    typer.echo(summary(report, out))
