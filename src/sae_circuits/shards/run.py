"""`run_shards`: every shard of a job once, wherever it runs, and the results in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from sae_circuits.errors import CircuitsError, OutputError, ShardError
from sae_circuits.progress import bar
from sae_circuits.shards.folder import ShardFolder
from sae_circuits.shards.job import Bad, Done, InProcess, Job, Partial, Shard, Workers

MOST_BAD = 10  # shards, after which a run ends: something is wrong with all of them


@dataclass(frozen=True)
class Means:
    """By what means a job is run, which has no say in what comes out.

    Args:
        workers: what runs its shards; this process by default (see `sae_circuits.workers`).
        folder: where each shard is kept as it is done, and from which a run goes on.
    """

    workers: Workers | None = None
    folder: str | Path | None = None

    def within(self, name: str) -> Means:
        """For a part of a larger job: a folder inside the folder."""
        inside = None if self.folder is None else Path(self.folder) / name
        return Means(self.workers, inside)


@runtime_checkable
class Kept(Protocol):
    """Where the shards of a job are kept as they are done, such as a `ShardFolder`."""

    def has(self, shard: Shard) -> bool:
        """Whether a shard is done."""
        ...

    def write(self, shard: Shard, partial: Partial) -> None:
        """Keep what came of a shard, whole or not at all."""
        ...


def run_shards(job: Job, shards: Sequence[Shard], means: Means | None = None) -> Iterator[Partial]:
    """What a job makes of its shards, in their order.

    With a folder each is written down as it is done, and those that are there are not made again:
    see `keep_shards`.

    Raises:
        ShardError: some failed, on workers or with a folder.
        CircuitsError: what the first failing shard raised, in this process and without a folder.
        OutputError: a folder of another job, or that cannot be written.
    """
    means = means or Means()
    if means.folder is not None:
        folder = ShardFolder.open(means.folder, job, shards)
        keep_shards(job, shards, folder, means.workers)
        yield from map(folder.read, shards)
        return
    found: dict[int, Partial] = {}
    turn = 0
    for one in _done(job, shards, shards, means.workers, resumable=False):
        found[one.shard.index] = one.partial
        while turn in found:  # in order, and held no longer than that takes
            yield found.pop(turn)
            turn += 1


def keep_shards(
    job: Job,
    shards: Sequence[Shard],
    kept: Kept,
    workers: Workers | None = None,
    *,
    resumable: bool = True,
) -> None:
    """Make those of a job's shards that are not kept yet, and keep each as it is done.

    A shard that fails does not stop the others; in the end all that failed are told of, and the
    same call makes them alone.

    Args:
        resumable: whether what is kept stays when the run fails; else, in this process, the first
            shard that fails ends it.

    Raises:
        ShardError: some failed.
        CircuitsError: what the first failing shard raised, where nothing stays.
        OutputError: it cannot be written.
    """
    missing = [shard for shard in shards if not kept.has(shard)]
    for one in _done(job, shards, missing, workers, resumable=resumable):
        try:
            kept.write(one.shard, one.partial)
        except OutputError as error:
            raise OutputError(
                f"{error}; shard {one.shard.index + 1} of {len(shards)} is lost, those before it "
                "stay: make room, and give the same call again"
            ) from error


def _done(
    job: Job,
    shards: Sequence[Shard],
    missing: Sequence[Shard],
    workers: Workers | None,
    *,
    resumable: bool,
) -> Iterator[Done]:
    """The missing ones of all shards as they are done; those that fail are told of in the end."""
    workers = workers or InProcess()
    alone = not resumable and isinstance(workers, InProcess)
    bad: list[Bad] = []
    total, left = (sum(shard.stop - shard.start for shard in some) for some in (shards, missing))
    with bar(total=total, description=job.name, unit=job.unit) as progress:
        progress.update(total - left)
        for one in workers.run(job, missing) if missing else ():
            if isinstance(one, Bad):
                if alone:
                    raise one.error
                bad.append(one)
                if len(bad) >= MOST_BAD:
                    break
                continue
            progress.update(one.shard.stop - one.shard.start)
            if resumable or not bad:
                yield one
    if bad:
        raise _failed(job, bad, shards, resumable=resumable)


def _failed(
    job: Job, bad: Sequence[Bad], shards: Sequence[Shard], *, resumable: bool
) -> ShardError:
    """The error that tells of all bad shards."""
    lines = [f"  {job.describe(one.shard)}: {_said(one.error)}" for one in bad]
    again = "are kept: mend these, and give the same call again" if resumable else (
        "are lost, since no folder was given to keep them"
    )  # fmt: skip
    more = " or more" if len(bad) >= MOST_BAD else ""
    error = ShardError(
        f"{len(bad)}{more} of {len(shards)} shards of {job.name} failed; the others {again}\n"
        + "\n".join(lines)
    )
    error.bad = tuple(bad)
    raise error from bad[0].error


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return text if isinstance(error, CircuitsError) else f"{type(error).__name__}: {text}"
