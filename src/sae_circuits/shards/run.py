"""`run_shards`: every shard of a job once, wherever it runs, and the results in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def run_shards(job: Job, shards: Sequence[Shard], means: Means | None = None) -> Iterator[Partial]:
    """What a job makes of its shards, in their order.

    With a folder each is written down as it is done, and those that are there are not made again. A
    shard that fails does not stop the others there; in the end all that failed are told of, and the
    same call makes them alone.

    Raises:
        ShardError: some failed, on workers or with a folder.
        CircuitsError: what the first failing shard raised, in this process and without a folder.
        OutputError: a folder of another job, or that cannot be written.
    """
    means = means or Means()
    workers = means.workers or InProcess()
    alone = means.folder is None and isinstance(workers, InProcess)
    folder = None if means.folder is None else ShardFolder.open(means.folder, job, shards)
    missing = [shard for shard in shards if folder is None or not folder.has(shard)]
    found: dict[int, Partial] = {}
    bad: list[Bad] = []
    turn = 0
    total = sum(shard.stop - shard.start for shard in shards)
    with bar(total=total, description=job.name, unit=job.unit) as progress:
        progress.update(total - sum(shard.stop - shard.start for shard in missing))
        for one in workers.run(job, missing) if missing else ():
            if isinstance(one, Bad):
                if alone:
                    raise one.error
                bad.append(one)
                if len(bad) >= MOST_BAD:
                    break
                continue
            progress.update(one.shard.stop - one.shard.start)
            if folder is not None:
                _keep(folder, one, len(shards))
                continue
            found[one.shard.index] = one.partial
            while turn in found and not bad:  # in order, and held no longer than that takes
                yield found.pop(turn)
                turn += 1
    if bad:
        raise _failed(job, bad, shards, resumable=folder is not None)
    if folder is not None:
        yield from map(folder.read, shards)


def _keep(folder: ShardFolder, one: Done, n: int) -> None:
    try:
        folder.write(one.shard, one.partial)
    except OutputError as error:
        raise OutputError(
            f"{error}; shard {one.shard.index + 1} of {n} is lost, those before it stay: make "
            "room, and give the same call again"
        ) from error


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
