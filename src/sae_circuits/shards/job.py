"""What a job is: a pure function of shards; and what runs it: workers."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

Partial = Mapping[str, Tensor]
"""What a job makes of a shard: tensors by name, whose dtypes numpy has."""

MOST = 128  # shards of a job, unless it has to have more


@dataclass(frozen=True, slots=True)
class Shard:
    """Some of the items of a job, such as examples 64 to 127: the third of its parts.

    Args:
        given: what a worker needs of these items beside the job, such as their tokens; nothing
            else of the whole is sent to it.
    """

    index: int
    start: int
    stop: int
    given: Any = field(default=None, compare=False, repr=False)


class Job(ABC):
    """A pure function of shards, in the order of whose results the whole is merged.

    What a shard gives hangs on the job and on the shard alone: not on the worker, nor on what that
    worker did before.
    """

    name: ClassVar[str]
    """What it is called, such as "attribution"."""
    unit: ClassVar[str]
    """What its items are, in the singular, such as "example"."""
    model: Any
    """The model that it runs, of which every worker has a copy; None for none."""

    def check(self) -> None:  # noqa: B027  # a job without a model has nothing to check
        """See that the model is the one that the job was made for, where a worker has loaded it.

        Raises:
            ModelError: it is not.
        """

    @property
    @abstractmethod
    def said(self) -> Mapping[str, Any]:
        """All that decides what comes out, as plain values: equal where the results are."""

    @abstractmethod
    def open(self) -> Callable[[Shard], Partial]:
        """Set up what all shards share, and give what works on them."""

    @abstractmethod
    def describe(self, shard: Shard) -> str:
        """What a shard is made of, for people to find what is bad in it."""


@dataclass(frozen=True)
class Done:
    """A shard and what came of it."""

    shard: Shard
    partial: Partial


@dataclass(frozen=True)
class Bad:
    """A shard that gave no result, and why."""

    shard: Shard
    error: BaseException
    trace: str = ""

    @classmethod
    def of(cls, shard: Shard, error: BaseException) -> Bad:
        """With the traceback as text."""
        return cls(shard, error, "".join(traceback.format_exception(error)))


class Workers(ABC):
    """What runs a job's shards: this process, several devices, or a cluster.

    Use them in a `with`, so that what was started for them ends with the block.

    Args:
        n: how many shards are worked on at a time.
    """

    n: int

    @abstractmethod
    def run(self, job: Job, shards: Sequence[Shard]) -> Iterator[Done | Bad]:
        """Each shard once, in any order.

        Raises:
            CircuitsError: a job that cannot be set up anywhere.
        """

    def close(self) -> None:  # noqa: B027  # nothing to end where nothing was started
        """End what was started for them."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class InProcess(Workers):
    """One shard after the other, here."""

    n: int = 1

    def run(self, job: Job, shards: Sequence[Shard]) -> Iterator[Done | Bad]:
        """Each shard in order."""
        work = job.open()
        for shard in shards:
            yield attempt(work, shard)


def attempt(work: Callable[[Shard], Partial], shard: Shard) -> Done | Bad:
    """What a function gives for a shard, or why it gives nothing."""
    try:
        return Done(shard, work(shard))
    except Exception as error:
        return Bad.of(shard, error)


def shards_of(n: int, size: int, most: int = MOST) -> list[Shard]:
    """Divide n items that go so many at a time; workers and memory have no say in it.

    >>> shards_of(5, 4)
    [Shard(index=0, start=0, stop=4), Shard(index=1, start=4, stop=5)]
    >>> [shard.stop for shard in shards_of(1000, 3, most=4)]
    [252, 504, 756, 1000]
    """
    batches = -(-n // size)
    step = size * -(-batches // most)
    bounds = range(0, n, step)
    return [Shard(i, start, min(n, start + step)) for i, start in enumerate(bounds)]
