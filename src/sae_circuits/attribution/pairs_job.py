"""What features have at each token, as a job: shards of a task's examples, put in a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from operator import add

import torch
from torch import Tensor

from sae_circuits.attribution.job import AttributionJob
from sae_circuits.attribution.method import Rule
from sae_circuits.attribution.pair_problem import Ends, PairProblem
from sae_circuits.attribution.sparse import Active
from sae_circuits.models.adapter import Adapter
from sae_circuits.shards import Means, run_shards


@dataclass(frozen=True, eq=False)
class PairsJob(AttributionJob[PairProblem]):
    """A rule on a task, whose batches leave behind what features have at their tokens."""

    name = "pairs of features"

    @classmethod
    def of(cls, job: AttributionJob[PairProblem]) -> PairsJob:
        """Of what was prepared."""
        return cls(*(getattr(job, field.name) for field in fields(job)))

    def ends(self, means: Means | None = None) -> Ends:
        """What all examples leave behind, on the model's device.

        Raises:
            MetricError: a metric that is constant wherever a gradient was taken.
        """
        adapter = Adapter.of(self.model)
        found = list(run_shards(self, self.shards, means))
        self.require_slope(flat for part in found for flat in part["flat"].tolist())
        saes = {placed.name: placed for placed in self.kind.place(adapter, self.graph)}
        return Ends.cat([_read(part, saes, adapter.device) for part in found])

    def _scored(self, problems: Iterator[PairProblem]) -> dict[str, Tensor]:
        rule, found = self.method.score_batch, list[Ends]()
        assert isinstance(rule, Rule)
        for batch in problems:
            problem, each = rule.gradients(batch, **self.settings)
            found.append(problem.ends(reduce(add, each)))
            del batch, problem, each  # gone before the next
        return _written(Ends.cat(found))


def _written(ends: Ends) -> dict[str, Tensor]:
    """Everything but the dictionaries, by names."""
    made = {f"normed.{name}": x for name, x in ends.normed.items()}
    for kind, each in (("change", ends.change), ("gradient", ends.gradient)):
        for name, active in each.items():
            for field in fields(active):
                made[f"{kind}.{name}.{field.name}"] = getattr(active, field.name)
    return made


def _read(part: Mapping[str, Tensor], saes: Mapping, device: torch.device) -> Ends:
    """The same again, of the dictionaries that have ends."""

    def active(kind: str) -> dict[str, Active]:
        names = [name for name in saes if f"{kind}.{name}.counts" in part]
        return {
            name: Active(*(part[f"{kind}.{name}.{f.name}"].to(device) for f in fields(Active)))
            for name in names
        }

    change, gradient = active("change"), active("gradient")
    normed = {name: part[f"normed.{name}"].to(device) for name in gradient}
    return Ends(
        {n: saes[n] for n in saes if n in change or n in gradient}, change, gradient, normed
    )
