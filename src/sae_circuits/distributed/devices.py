"""Several devices of one process: a thread and a copy of the model for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import torch

from sae_circuits.errors import OptionError, WorkerError
from sae_circuits.shards.job import Bad, Done, Job, Shard, Workers, attempt
from sae_circuits.shards.shipping import device_of, pack, require_one_device, unpack, unpack_model


@dataclass(frozen=True)
class DeviceWorkers(Workers):
    """A worker on each of some devices; the model itself serves its own."""

    devices: tuple[torch.device, ...]
    n: int

    @classmethod
    def on(cls, devices: Sequence[str | torch.device]) -> DeviceWorkers:
        """Workers on devices.

        Raises:
            OptionError: none.
            WorkerError: a device that is not there.
        """
        if not devices:
            raise OptionError("no devices: give one or more, such as ['cuda:0', 'cuda:1']")
        found = []
        for name in devices:
            try:
                found.append(torch.empty(0, device=name).device)
            except (RuntimeError, AssertionError) as error:
                reason = str(error).partition("\n")[0]
                raise WorkerError(f"cannot work on the device {str(name)!r}: {reason}") from error
        return cls(tuple(found), len(found))

    def run(self, job: Job, shards: Sequence[Shard]) -> Iterator[Done | Bad]:
        """Each shard, on the device that is free first."""
        todo: SimpleQueue[Shard] = SimpleQueue()
        for shard in shards:
            todo.put(shard)
        found: SimpleQueue[Done | Bad | Exception] = SimpleQueue()

        def serve(copy: Job) -> None:
            try:
                work = copy.open()
            except Exception as error:
                found.put(error)
                return
            while True:
                try:
                    shard = todo.get_nowait()
                except Empty:
                    return
                found.put(attempt(work, shard))

        copies = self._copies(job)
        with ThreadPoolExecutor(len(copies)) as pool:
            for copy in copies:
                pool.submit(serve, copy)
            try:
                for _ in shards:
                    one = found.get()
                    if isinstance(one, Exception):  # a job that cannot be set up
                        raise one
                    yield one
            finally:  # the rest is not worked on where somebody stops asking
                while not todo.empty():
                    todo.get_nowait()

    def _copies(self, job: Job) -> list[Job]:
        require_one_device(job.model)
        here, own, packed = device_of(job.model), False, None
        copies: list[Job] = []
        for device in self.devices:
            if device == here and not own:
                copies.append(job)
                own = True
                continue
            packed = packed or (pack(job, here, job.model), pack(job.model, here))
            model = unpack_model(packed[1], device)
            copies.append(unpack(packed[0], device, model))
        return copies
