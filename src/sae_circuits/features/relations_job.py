"""The features nearest to each of a store's as a job, whose shards are features in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64

from sae_circuits.features.activations import Activations
from sae_circuits.features.folders import activations_in
from sae_circuits.features.frames import table
from sae_circuits.features.measures import MEASURES
from sae_circuits.features.nearest import at_once_in
from sae_circuits.features.relations import correlations
from sae_circuits.shards import Job, Means, Partial, Shard, run_shards

if TYPE_CHECKING:
    import pandas

FEWEST, LARGEST = 1 << 16, 1 << 22  # activations of a shard's features
MOST = 8  # shards, unless they would be too large
COLUMNS = ("feature", "rank", "other", "value")


@dataclass(frozen=True, eq=False)
class RelationsJob(Job):
    """What `correlations` finds of all features, among all.

    Args:
        folder: of the store, where every worker finds corpus and activations.
        meta: the store's record.
        k: how many of each feature.
        memory: bytes to stay under, in each worker.
        held: the activations, where they are open already.
    """

    folder: Path
    meta: Mapping[str, Any]
    k: int
    memory: int
    held: Activations | None

    name = "relations"
    unit = "feature"
    model = None

    @property
    def said(self) -> Mapping[str, Any]:
        """The activations, how many, and by what."""
        return {"made": self.meta["made"], "k": self.k, "measures": list(MEASURES)}

    def __getstate__(self) -> dict[str, Any]:  # a worker opens them for itself
        return {**vars(self), "held": None}

    def describe(self, shard: Shard) -> str:
        """The features."""
        return f"features {shard.start} to {shard.stop - 1}"

    def open(self) -> Callable[[Shard], Partial]:
        """The nearest of a shard's features."""
        activations = self.held or activations_in(self.folder, self.meta)
        activations = replace(activations, memory=self.memory)

        def work(shard: Shard) -> Partial:
            features, at_once = range(shard.start, shard.stop), at_once_in(self.memory)
            found = correlations(activations, self.k, features=features, at_once=at_once)
            measure = [list(MEASURES).index(name) for name in found.measure]
            columns = {name: torch.from_numpy(found[name].to_numpy().copy()) for name in COLUMNS}
            return {"measure": torch.tensor(measure, dtype=torch.int8), **columns}

        return work


def related(job: RelationsJob, activations: Activations, means: Means) -> pandas.DataFrame:
    """The columns that the table of a store has: see `correlations`.

    Raises:
        ShardError: some features failed, on workers or with a folder.
        OutputError: a folder of another store, or that cannot be written.
    """
    parts = list(run_shards(job, features_of(activations.counts), means))
    found = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return table({**found, "measure": np.array(list(MEASURES))[found["measure"]]})


def features_of(counts: Int64[np.ndarray, "feature"]) -> list[Shard]:
    """Divide features into some in a row, of about equally many activations.

    All features are read again for each: so there are no more than keep a few workers busy.
    """
    every = np.cumsum(counts + 16)  # a feature takes room of its own
    size = min(max(FEWEST, -(-int(every[-1]) // MOST)), LARGEST)
    found, start = list[Shard](), 0
    while start < len(counts):
        done = int(every[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(every, done + size, side="right")))
        found.append(Shard(len(found), start, stop))
        start = stop
    return found
