"""The connections of all prompts as a job: sums over pairs, shard by shard of the prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sae_circuits.connectome.components import Component
from sae_circuits.connectome.ways import WAYS
from sae_circuits.connectome.work import Sums, Work
from sae_circuits.shards import Job, Means, Partial, Shard, fingerprint, run_shards, shards_of


@dataclass(frozen=True, eq=False)
class ConnectionsJob(Job):
    """How upstream features change targets, summed over prompts.

    Args:
        work: all that the way needs.
        method: which way.
    """

    model: Any
    work: Work
    method: str

    name = "connections"
    unit = "prompt"

    @property
    def said(self) -> dict[str, Any]:
        """All that decides the sums."""
        work = self.work
        of = [(s.name, _weights(s)) for s in (*work.sources, work.target)]
        return {
            "model": work.adapter.fingerprint,
            "task": work.task.fingerprint,
            "method": self.method,
            "reference": str(work.reference),
            "steps": work.steps,
            "through": work.through,
            "positions": None if work.positions is None else list(work.positions),
            "batch_size": work.rows,
            "space": work.space,
            "dictionaries": fingerprint(of),
            "targets": fingerprint(torch.as_tensor(list(work.target.chosen))),
            "asked": fingerprint(work.asked),
        }

    def describe(self, shard: Shard) -> str:
        """The prompts, and the first of them."""
        return self.work.task.describe(shard.start, shard.stop)

    def open(self) -> Callable[[Shard], Partial]:
        """The sums over a shard's prompts."""
        work, way = self.work, WAYS[self.method]

        def sums(shard: Shard) -> Partial:
            parts: dict[str, list[Sums]] = {source.name: [] for source in work.sources}
            dense: dict[str, Tensor] = {}
            for first in range(shard.start, shard.stop, work.rows):
                part = way(work, work.task[first : min(first + work.rows, shard.stop)])
                for name, found in part.values.items():
                    parts[name] = [Sums.merged([*parts[name], *found])]
                more = {f"{name}.error": wrong for name, wrong in part.errors.items()}
                for name, values in {**more, "active": part.active}.items():
                    dense[name] = dense.get(name, 0) + values.detach().double().cpu()
            for name, some in parts.items():
                whole = Sums.merged(some)
                dense[f"{name}.keys"], dense[f"{name}.values"] = whole.keys, whole.values
            return dense

        return sums


def run(
    work: Work, method: str, means: Means | None = None
) -> tuple[dict[str, Sums], dict[str, Tensor], Tensor]:
    """By source the values of pairs and the targets' errors; and the targets' activations."""
    job, n = ConnectionsJob(work.adapter.model, work, method), len(work.task)
    found: dict[str, Sums] = {source.name: Sums.merged([]) for source in work.sources}
    dense: dict[str, Tensor] = {}
    for part in run_shards(job, shards_of(n, work.rows), means):
        for name, held in found.items():
            new = Sums(part[f"{name}.keys"], part[f"{name}.values"])
            found[name] = Sums.merged([held, new])
        for name in ("active", *(name for name in part if name.endswith(".error"))):
            dense[name] = dense.get(name, 0) + part[name]
    active = dense.pop("active") / n
    errors = {name.removesuffix(".error"): wrong / n for name, wrong in dense.items()}
    return {name: Sums(x.keys, x.values / n) for name, x in found.items()}, errors, active


def _weights(source: Any) -> Any:
    return source.members if isinstance(source, Component) else source.dictionary.fingerprint
