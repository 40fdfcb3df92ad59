"""What an edge carries when it is not in the circuit.

corrupt          what its source writes on the corrupt prompt
resample         what it writes on another example's clean prompt, of the same length
zero             nothing
mean             its mean over the real tokens of the clean prompts
mean-positional  its mean over the clean prompts at the same position
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.ablation.values import Intervening, NodeValues
from sae_circuits.cache import Writes, require_finite, run
from sae_circuits.errors import TaskError, unknown
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.tasks import Task

INTERVENTIONS = ("corrupt", "zero", "mean", "mean-positional", "resample")
# What other libraries call them, to be suggested.
ELSEWHERE = {"patching": "corrupt", "interchange": "corrupt", "resampling": "resample"}
RUNS = ("corrupt", "resample")  # those whose values are a run of the model


@dataclass(frozen=True, eq=False)
class Intervention:
    """An intervention on a task: the values that absent edges carry.

    `task` is the task whose corrupt prompts give those values; `constant` holds them where they
    are the same for every example, as tensors of one row and one position, or of all positions.
    """

    name: str
    task: Task
    constant: Writes | None = None

    @classmethod
    def prepare(
        cls,
        adapter: Adapter,
        task: Task,
        intervention: Intervening,
        *,
        batch_size: int,
        seed: int = 0,
        saes: Sequence[Placed] = (),
    ) -> Intervention:
        """Work out once, before any batch, what an intervention needs of the whole task.

        Args:
            intervention: a name, or a value for each writer.
            saes: dictionaries whose features are writers.

        Raises:
            UnknownName: no such intervention.
            GraphError: values of another model's writers.
            TaskError: `resample` where some length occurs only once.
        """
        if isinstance(intervention, NodeValues):
            zeros = zero_writes(adapter, task, saes=saes)
            return cls(intervention.name, task, intervention.writes(zeros))
        name = intervention
        if name not in INTERVENTIONS:
            raise unknown("intervention", name, INTERVENTIONS, ELSEWHERE)
        if name == "corrupt":
            return cls(name, task)
        if name == "resample":
            return cls(name, replace(task, corrupt=task.clean[partners(task, seed)]))
        if name == "zero":
            return cls(name, task, zero_writes(adapter, task, saes=saes))
        positional = name == "mean-positional"
        return cls(
            name, task, mean_writes(adapter, task, batch_size, positional=positional, saes=saes)
        )

    @property
    def is_run(self) -> bool:
        """Whether the values are those of a run of the model, so that they fit together."""
        return self.constant is None

    def writes(self, adapter: Adapter, batch: Task, saes: Sequence[Placed] = ()) -> Writes:
        """The values for a batch of `self.task`, for each token."""
        if self.constant is None:
            return run(adapter, batch.corrupt, batch.position, saes=saes).writes
        shape = batch.clean.shape

        def spread(x: Tensor) -> Tensor:
            return x[:, : shape[1]].expand(*shape, *x.shape[2:])

        return self.constant.map(by=spread)


def partners(task: Task, seed: int = 0) -> Int64[Tensor, "n"]:
    """For each example another one of the same length: a seeded cycle within each length.

    Raises:
        TaskError: a length that only one example has.
    """
    generator = torch.Generator().manual_seed(seed)
    partner = torch.empty(len(task), dtype=torch.int64)
    for length in task.lengths.unique().tolist():
        same = (task.lengths.cpu() == length).nonzero()[:, 0]
        if len(same) == 1:
            raise TaskError(
                f"example {int(same)} is the only one of {length} tokens, so there is none to "
                "resample it from: use more examples, or another intervention"
            )
        shuffled = same[torch.randperm(len(same), generator=generator)]
        partner[shuffled] = shuffled.roll(1)
    return partner


@torch.no_grad()
def zero_writes(adapter: Adapter, task: Task, *, saes: Sequence[Placed] = ()) -> Writes:
    """Zeros in the shape of what each writer writes at one token."""
    one = next(iter(task.batches(1)))
    writes = run(adapter, one.clean, one.position, saes=saes).writes
    return writes.map(by=lambda x: x.new_zeros(1, 1, *x.shape[2:], dtype=adapter.dtype))


def mean_writes(
    adapter: Adapter,
    task: Task,
    batch_size: int,
    *,
    positional: bool,
    saes: Sequence[Placed] = (),
) -> Writes:
    """Each writer's mean over the clean prompts' real tokens, at each position or over all.

    Sums are taken in float64. At a position that no prompt reaches the mean is zero.
    """
    total: Writes | None = None
    counts = torch.zeros(task.clean.shape[1], dtype=torch.float64, device=adapter.device)
    for i, batch in enumerate(task.batches(batch_size)):
        pos = torch.arange(batch.clean.shape[1], device=adapter.device)
        real = pos < batch.lengths.to(adapter.device)[:, None]
        counts[: len(pos)] += real.sum(0)

        def summed(x: Tensor, real: Tensor = real) -> Tensor:
            weight = real.to(torch.float64).reshape(*real.shape, *[1] * (x.ndim - 2))
            kept = torch.where(weight > 0, x.double(), 0.0).sum(0, keepdim=True)
            return torch.cat([kept, kept.new_zeros(1, len(counts) - len(real[0]), *x.shape[2:])], 1)

        writes = run(adapter, batch.clean, batch.position, saes=saes).writes
        require_finite(writes, i * batch_size, "the clean run")
        sums = writes.map(by=summed)
        total = sums if total is None else total.map(sums, by=torch.add)
    assert total is not None  # a task is never empty
    dtype = adapter.dtype

    def mean(x: Tensor) -> Tensor:
        if not positional:
            return (x.sum(1, keepdim=True) / counts.sum()).to(dtype)
        return (x / counts.clamp(min=1).reshape(1, -1, *[1] * (x.ndim - 2))).to(dtype)

    return total.map(by=mean)
