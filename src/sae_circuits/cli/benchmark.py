"""`sae-circuits benchmark`: methods against tasks, in one table and one page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sae_circuits.cli import names, options

Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="Again for each method; by default all.",
        autocompletion=names.of(names.METHODS),
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="Again for each model; by default 'demo'.",
        autocompletion=names.of(names.MODELS),
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help="Again for each task; see 'sae-circuits tasks'.",
        autocompletion=names.of(names.TASKS),
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="A folder of data sets, in MIB's layout or another that tasks take."),
]
Known = Annotated[
    list[str] | None,
    typer.Option(help="Again for each model with a known circuit; 'all' for all of them."),
]
Levels = Annotated[
    list[str] | None,
    typer.Option(
        "--level",
        help="Again for each of edges, nodes and neurons; by default edges.",
        autocompletion=names.of(names.LEVELS),
    ),
]


def benchmark(
    out: Annotated[Path, typer.Option(help="The folder for all that comes out.")] = Path(
        "benchmark-run"
    ),
    methods: Methods = None,
    models: Models = None,
    tasks: Tasks = None,
    data: Data = None,
    known: Known = None,
    levels: Levels = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many sets of prompts.")] = 3,
    n: options.N = 64,
    eps: Annotated[
        float,
        typer.Option(help="In models with known circuits, how much other parts write."),
    ] = 0.05,
    metric: options.MetricName = "logit_diff",
    intervention: options.Intervention = "corrupt",
    batch_size: options.BatchSize = None,
    memory: options.Memory = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    ray: options.Ray = None,
    workers: options.NWorkers = None,
    gpus_per_worker: options.GpusPerWorker = 0,
) -> None:
    """Compare methods on tasks, and on models whose circuits are known.

    Each cell of the table is kept as it is finished: a run that was interrupted goes on where it
    stopped, and one with more methods, tasks or seeds adds theirs to the same folder.
    """
    from sae_circuits.attribution import methods as every_method
    from sae_circuits.benchmarking import benchmark as run
    from sae_circuits.benchmarking.page import summary
    from sae_circuits.cli.folder import command_line
    from sae_circuits.testing import truths

    options.check_names(
        task="ioi", task_file=None, metric=metric, intervention=intervention, dtype=dtype
    )
    options.check_memory(memory)
    with options.workers_of(ray, workers, gpus_per_worker, None) as shared:
        found = run(
            out,
            methods=methods or every_method(),
            models=[options.open_model(name, device, dtype) for name in models or ["demo"]],
            tasks=[*(tasks or []), *([data] if data else [])] or ([] if known else ["ioi"]),
            known=truths() if known == ["all"] else known or (),
            levels=levels or ["edges"],
            seeds=seeds,
            n=n,
            eps=eps,
            metric=metric,
            intervention=intervention,
            batch_size=batch_size,
            memory=memory,
            command=command_line(sys.argv[1:]),
            workers=shared,
        )
    typer.echo(f"{summary(found)}\nPage:  {out / 'table.html'}\nTable: {out / 'table.md'}")
