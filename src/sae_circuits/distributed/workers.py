"""`workers`: where a job's shards are worked on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch

from sae_circuits.distributed.devices import DeviceWorkers
from sae_circuits.distributed.options import RayOptions
from sae_circuits.errors import MissingProgram, OptionError
from sae_circuits.shards import InProcess, Workers


def workers(
    where: str | Sequence[str | torch.device] = "auto",
    n: int | None = None,
    *,
    gpus_per_worker: float = 0,
    load: Callable[[], Any] | None = None,
    threads: int | None = None,
    retries: int = 2,
) -> Workers:
    """What works on the shards of a job, for all functions that take `workers=`.

    What comes out hangs neither on where the work is done nor on how many do it. Use it in a
    `with`, so that what it started ends with the block.

    Args:
        where: "local" for a Ray cluster of this machine, which is started; the address of one that
            runs, such as "10.0.0.1:6379" or "ray://10.0.0.1:10001"; "auto" for one that runs, or
            else a local one, or else this process where Ray is not installed; "none" for this
            process; or devices of this process, such as ["cuda:0", "cuda:1"], with a copy of the
            model on each.
        n: how many workers; by default as many as there are processors, or GPUs.
        gpus_per_worker: of Ray's workers: 1, a part such as 0.5, or 0 for the processor.
        load: gives the model in each worker, such as `lambda: sc.load_model("gpt2")`; without it
            the model of the call is sent there.
        threads: of each of Ray's workers; by default this process's, divided among local ones.
        retries: how often a shard is tried again whose worker died.

    Raises:
        OptionError: fewer than one worker, or values below 0.
        MissingProgram: Ray is asked for and not installed.
        WorkerError: the address does not answer, or there are no such GPUs or devices.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> graph = sc.TensorGraph.from_model(model)
        >>> with sc.workers(["cpu", "cpu"]) as two:
        ...     scores = sc.attribute(model, graph, task, batch_size=2, workers=two)
        >>> alone = sc.attribute(model, graph, task, batch_size=2)
        >>> bool((scores.values == alone.values).all())
        True
    """
    if n is not None and n < 1:
        raise OptionError(f"{n} workers: give one or more")
    for name, value in (("gpus_per_worker", gpus_per_worker), ("retries", retries)):
        if value < 0:
            raise OptionError(f"{name}={value}: give 0 or more")
    if threads is not None and threads < 1:
        raise OptionError(f"threads={threads}: give one or more")
    if not isinstance(where, str):
        return DeviceWorkers.on(where)
    if where == "none":
        return InProcess()
    if find_spec("ray") is None:
        if where == "auto":
            return InProcess()
        raise MissingProgram(
            "Ray is not installed: pip install 'sae-circuits[ray]', or work in this process with "
            "workers('none')"
        )
    from sae_circuits.distributed.ray_workers import RayWorkers

    return RayWorkers.start(RayOptions(where, n, gpus_per_worker, load, threads, retries))
