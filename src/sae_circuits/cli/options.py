"""Options that several commands have, and their values checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import names
from sae_circuits.errors import FileFormatError, OptionError, unknown
from sae_circuits.sizes import in_bytes

if TYPE_CHECKING:
    from sae_circuits.shards import Workers
    from sae_circuits.tasks import Task

Model = Annotated[
    str,
    typer.Option(
        help="'demo' (bundled), a directory in Hugging Face's format, or a name that "
        "transformer-lens knows.",
        autocompletion=names.of(names.MODELS),
    ),
]
TaskName = Annotated[
    str,
    typer.Option(
        "--task",
        help="A bundled task; see 'sae-circuits tasks'.",
        autocompletion=names.of(names.TASKS),
    ),
]
TaskFile = Annotated[
    Path | None,
    typer.Option(
        help="Prompts of your own instead: CSV, JSON, Parquet or a folder, in our layout or in "
        "EAP-IG's, MIB's or feature-circuits'."
    ),
]
Skip = Annotated[
    bool,
    typer.Option("--skip", help="Leave out pairs of --task-file that do not fit the tokenizer."),
]
N = Annotated[int, typer.Option("--n", min=1, help="How many examples of a bundled task.")]
Seed = Annotated[int, typer.Option(help="Of the examples and of all that is drawn.")]
MetricName = Annotated[
    str,
    typer.Option(
        "--metric",
        help="logit_diff, prob_diff, kl, cross_entropy or accuracy.",
        autocompletion=names.of(names.METRICS),
    ),
]
Intervention = Annotated[
    str,
    typer.Option(
        help="What absent edges carry: corrupt, zero, mean, mean-positional or resample.",
        autocompletion=names.of(names.INTERVENTIONS),
    ),
]
NoCurve = Annotated[
    bool, typer.Option("--no-curve", help="Leave out the curve over circuit sizes.")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Examples at a time; by default as memory allows.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="To stay under beside the model's weights: 8GiB, or 50% of the device's memory; by "
        "default 1GiB, on a GPU 4GiB, or what one prompt takes where that is more."
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Such as cpu, cuda or mps; by default the best there is.",
        autocompletion=names.of(names.DEVICES),
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="Of the weights: float32, float64, bfloat16 or float16.",
        autocompletion=names.of(names.DTYPES),
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="Share the work out on Ray: auto, local, or the address of a cluster, such as "
        "10.0.0.1:6379; see docs/scaling.md."
    ),
]
NWorkers = Annotated[
    int | None,
    typer.Option("--workers", help="How many share the work; by default as many as there is room."),
]
GpusPerWorker = Annotated[
    float, typer.Option(help="Of each of Ray's workers: 1, a part such as 0.5, or 0.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what another run has left in the folder.")
]


def check_names(
    *,
    task: str,
    task_file: Path | None,
    metric: str,
    intervention: str,
    dtype: str,
    direction: str = "noising",
    memory: str | None = None,
) -> None:
    """Refuse a name that nothing has, a file that is not there, or what is no size of memory.

    Raises:
        OptionError: of memory.
        UnknownName: with the nearest names.
        FileFormatError: there is no such task file.
    """
    from sae_circuits import metrics, tasks
    from sae_circuits.ablation.interventions import INTERVENTIONS

    if task_file is None:
        _known("task", task, tasks.names())
    elif not task_file.exists():
        raise FileFormatError(f"cannot read {str(task_file)!r}: no such file")
    _known("metric", metric, metrics.names())
    _known("intervention", intervention, INTERVENTIONS)
    _known("direction", direction, names.DIRECTIONS)
    check_dtype(dtype)
    check_memory(memory)


def check_dtype(dtype: str) -> None:
    """Refuse the name of what is no dtype of weights.

    Raises:
        UnknownName: with the nearest names.
    """
    _known("dtype", dtype, names.DTYPES)


def check_memory(memory: str | None) -> None:
    """Refuse what is no size of memory.

    Raises:
        OptionError: with the forms that are.
    """
    if memory is not None:
        in_bytes(memory)  # a share of what, is asked again when the model is there


def open_model(name: str, device: str | None, dtype: str) -> Any:
    """Load a model as the options ask.

    Raises:
        OptionError: there is no such device.
    """
    from sae_circuits.models import load_model

    return load_model(name, device=device, dtype=dtype)


@contextmanager
def workers_of(
    ray: str | None, n: int | None, gpus_per_worker: float, load: Callable[..., Any] | None
) -> Iterator[Workers | None]:
    """The workers that the options ask for, until the block ends; None for this process.

    Args:
        load: gives the model on a device, in each worker; None to send it there.

    Raises:
        OptionError: fewer than one worker, or GPUs without Ray.
        WorkerError: a cluster that does not answer.
    """
    from sae_circuits.distributed import workers

    if ray is None and n is None:
        if gpus_per_worker:
            raise OptionError("--gpus-per-worker is of Ray's workers: give --ray too")
        yield None
        return
    place = "cuda" if gpus_per_worker else "cpu"
    where, here = ray or "auto", None if load is None else partial(load, device=place)
    with workers(where, n, gpus_per_worker=gpus_per_worker, load=here) as found:
        yield found


def place_of(model: Any) -> Any:
    """The device of a model."""
    from sae_circuits.models.adapter import Adapter

    return Adapter.of(model).device


def open_task(
    model: Any, task: str, task_file: Path | None, n: int, seed: int, *, skip: bool = False
) -> Task:
    """Make the bundled task, or read the file."""
    from sae_circuits.tasks import Task, make

    if task_file is not None:
        return Task.from_file(model, task_file, skip=skip)
    return make(task, model, n, seed)


def _known(kind: str, value: str, there: tuple[str, ...]) -> None:
    if value not in there:
        raise unknown(kind, value, there)
