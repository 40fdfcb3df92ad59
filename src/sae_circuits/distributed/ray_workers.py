"""Ray's workers: a pool of actors, each with the model once, to which shards go one by one.

The only module that imports Ray. An actor that dies is replaced, and its shard tried again; what an
actor's work raises comes back as a value, so that nothing is lost on the way.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sae_circuits import errors
from sae_circuits.distributed.actor import Actor
from sae_circuits.distributed.options import RayOptions
from sae_circuits.errors import CircuitsError, OptionError, WorkerError
from sae_circuits.shards.job import Bad, Done, Job, Shard, Workers
from sae_circuits.shards.shipping import device_of, pack, require_one_device

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: no network
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "5")  # seconds to wait for a cluster's answer

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

ANSWERS_WITHIN = 5.0  # seconds, of an address


@dataclass
class RayWorkers(Workers):
    """Workers on a Ray cluster, which live until `close`, or the end of a `with`."""

    options: RayOptions
    n: int
    owns_cluster: bool
    threads: int
    _idle: list[Any] = field(default_factory=list)
    _sent: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # models, and where they are

    @classmethod
    def start(cls, options: RayOptions) -> RayWorkers:
        """Connect to a cluster, or start one.

        Raises:
            WorkerError: an address that does not answer, or a cluster without the GPUs asked for.
        """
        owns = _connect(options)
        have = ray.cluster_resources()
        gpus, cpus = have.get("GPU", 0), int(have.get("CPU", 1))
        if options.gpus_per_worker > gpus:
            _disconnect(owns)
            raise WorkerError(
                f"{options.gpus_per_worker:g} GPUs for a worker, and the cluster has {gpus:g}: "
                "give gpus_per_worker=0, or the address of a cluster with GPUs"
            )
        most = int(gpus / options.gpus_per_worker) if options.gpus_per_worker else cpus
        n = options.n or max(1, most)
        shared = n if owns else 1
        threads = options.threads or max(1, torch.get_num_threads() // shared)
        return cls(options, n, owns, threads)

    def run(self, job: Job, shards: Sequence[Shard]) -> Iterator[Done | Bad]:
        """Each shard, on the worker that is free first.

        Raises:
            WorkerError: no worker can be set up, or the cluster went away.
            CircuitsError: what setting up the job raises.
        """
        pool = _Pool(self, job, deque(shards), min(self.n, len(shards)))
        try:
            yield from pool.results()
        except RayError as error:
            raise WorkerError(f"the cluster went away: {error}; give the same call again") from None
        finally:
            self._idle = pool.left()

    def actor(self) -> Any:
        """One that is idle, or a new one."""
        if self._idle:
            return self._idle.pop()
        cpus = 0 if self.owns_cluster else 1  # a cluster of one's own has no others to keep out
        options = {"num_cpus": cpus, "num_gpus": self.options.gpus_per_worker, "max_restarts": 0}
        made = ray.remote(Actor).options(**options)
        return made.remote(self.threads, self.options.device)

    def model_of(self, job: Job) -> tuple[int, Any]:
        """The model's number and where it is, sent once; or how each worker loads it."""
        model = job.model
        load = None if model is None else self.options.load
        if id(model) not in self._sent:
            if load is None:
                require_one_device(model)
            where = ray.put(load if load else pack(model, device_of(model)))
            self._sent[id(model)] = model, where
        return id(model), self._sent[id(model)][1]

    def close(self) -> None:
        """End the workers, and the cluster where it was started for them."""
        for actor in self._idle:
            _kill(actor)
        self._idle, self._sent = [], {}
        _disconnect(self.owns_cluster)


@dataclass
class _Pool:
    """The actors of one job: what each is at, and what is left to do."""

    workers: RayWorkers
    job: Job
    todo: deque[Shard]
    n: int
    busy: dict[Any, tuple[Any, Shard | None]] = field(default_factory=dict)  # None: setting up
    idle: list[Any] = field(default_factory=list)
    died: Counter[Shard] = field(default_factory=Counter)

    def results(self) -> Iterator[Done | Bad]:
        """What comes of each shard, as it comes."""
        device = device_of(self.job.model)
        self.packed = ray.put(pack(self.job, device, self.job.model))
        for _ in range(self.n):
            self._begin()
        lost = 0  # actors that died as they were set up
        while self.todo or any(shard is not None for _, shard in self.busy.values()):
            while self.idle and self.todo:
                actor, shard = self.idle.pop(), self.todo.popleft()
                self.busy[actor.work.remote(shard)] = actor, shard
            (ready,), _ = ray.wait(list(self.busy), num_returns=1)
            actor, shard = self.busy.pop(ready)
            try:
                found = ray.get(ready)
            except (RayActorError, OutOfMemoryError) as error:
                _kill(actor)
                if shard is None:
                    lost += 1
                    if lost > self.n + self.workers.options.retries:
                        raise WorkerError(_no_setup(lost, error)) from None
                self._begin()
                if shard is not None:
                    yield from self._again(shard, error)
                continue
            except RayTaskError as error:
                raise WorkerError(f"a worker failed in {self.job.name}: {error}") from None
            if shard is None and found is not None:
                raise _raised(found)
            self.idle.append(actor)
            if shard is not None:
                yield _result(shard, found)

    def left(self) -> list[Any]:
        """The actors that another job can have; those that are still at work are ended."""
        for actor, shard in self.busy.values():
            if shard is None:  # it will be there, and then take up what comes next
                self.idle.append(actor)
            else:
                _kill(actor)
        return self.idle

    def _begin(self) -> None:
        actor = self.workers.actor()
        number, model = self.workers.model_of(self.job)
        self.busy[actor.begin.remote(self.packed, number, model)] = actor, None

    def _again(self, shard: Shard, error: Exception) -> Iterator[Bad]:
        """Put a shard back whose worker died, or give it up."""
        self.died[shard] += 1
        if self.died[shard] <= self.workers.options.retries:
            self.todo.append(shard)
            return
        yield Bad(shard, WorkerError(
            f"its worker died {self.died[shard]} times, as one does whose memory runs out "
            f"({_first_line(error)}): give fewer examples at a time, or fewer workers"
        ))  # fmt: skip


def _result(shard: Shard, found: Any) -> Done | Bad:
    if isinstance(found, dict):
        return Done(shard, {name: torch.from_numpy(x.copy()) for name, x in found.items()})
    return Bad(shard, _raised(found), found[2])


def _raised(found: tuple[str, str, str]) -> Exception:
    """The error that an actor tells of, of its own kind where it is one of ours."""
    name, text, _ = found
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, CircuitsError):
        return kind(text)
    if name == "ModuleNotFoundError":
        return WorkerError(
            f"{text} in a worker: install it where the workers run, or define what needs it in the "
            "script or notebook itself"
        )
    if name == "MemoryError" or "out of memory" in text.lower() or "can't allocate" in text:
        return WorkerError(f"memory ran out ({text}): give fewer examples at a time")
    return RuntimeError(f"{name}: {text}")


def _no_setup(lost: int, error: Exception) -> str:
    return (
        f"{lost} workers died while they loaded the model ({_first_line(error)}): is there memory "
        "for a model in each? Give fewer workers"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _kill(actor: Any) -> None:
    with contextlib.suppress(RayError, ValueError):
        ray.kill(actor)


# -- the cluster ---------------------------------------------------------------------------------


def _connect(options: RayOptions) -> bool:
    """Connect, and say whether a cluster was started for it."""
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    where = options.where
    if ray.is_initialized():
        return False
    if where == "auto":
        try:
            ray.init("auto", **quiet)
            return False
        except ConnectionError:
            where = "local"
    if where == "local":
        cpus = max(options.n or 0, os.cpu_count() or 1)
        try:
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise WorkerError(f"a local cluster does not start: {error}") from error
        return True
    _require_answer(where)
    try:
        ray.init(where, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if "InvalidAuthToken" in f"{error} {error.__cause__}":
            raise WorkerError(
                f"the Ray cluster at {where!r} asks for a token: set RAY_AUTH_MODE=token, with the "
                "cluster's token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
            ) from error
        raise WorkerError(_no_cluster(where, _first_line(error))) from error
    return False


def _require_answer(address: str) -> None:
    """See that something listens, since Ray itself tries for a long time.

    Raises:
        OptionError: no address.
        WorkerError: nothing listens there.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        raise OptionError(
            f"{address!r} is no address of a cluster: give auto, local, none, or HOST:PORT"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise WorkerError(_no_cluster(address, str(error))) from error


def _no_cluster(address: str, why: str) -> str:
    return (
        f"no Ray cluster answers at {address!r} ({why}): start one with 'ray start --head', or "
        "give 'local'"
    )


def _disconnect(owns: bool) -> None:
    if owns and ray.is_initialized():
        ray.shutdown()
