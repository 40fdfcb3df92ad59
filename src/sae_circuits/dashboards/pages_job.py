"""The files of data beside a page of features as a job, whose shards are some files in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae_circuits.dashboards.blocks import Block
from sae_circuits.dashboards.build import CHUNK, profiles
from sae_circuits.dashboards.model_effects import Options
from sae_circuits.dashboards.page import index_columns
from sae_circuits.dashboards.profile import Profile
from sae_circuits.dashboards.profiles import shown_tokens
from sae_circuits.dashboards.reading import texts_of
from sae_circuits.dashboards.view_file import plain
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.features.sources import DictionarySource, model_of
from sae_circuits.models.adapter import Adapter
from sae_circuits.shards import Job, Partial, Shard

FEWEST = 8  # shards, as long as there are files for them


@dataclass(frozen=True, eq=False)
class PagesJob(Job):
    """What files of data say, of a store that every worker opens for itself.

    Args:
        store: the folder of the store.
        source: its model and dictionary; None where they are not at hand, or not needed.
        options: what to say beyond what the store says.
        model_id: of the model.
    """

    store: Path
    source: DictionarySource | None
    options: Options
    model_id: str | None

    name = "profiles"
    unit = "feature"

    @classmethod
    def of(cls, features: FeatureDictionary, options: Options) -> PagesJob:
        """Of a store."""
        source = features.source if isinstance(features.source, DictionarySource) else None
        model_id = None if source is None else source.adapter.fingerprint
        return cls(features.folder.resolve(), source, options, model_id)

    @property
    def said(self) -> Mapping[str, Any]:
        """The store; what else decides is in the keys of the files."""
        return {"store": str(self.store)}

    @property
    def model(self) -> Any:
        """The model, where it is at hand."""
        return model_of(self.source)

    def check(self) -> None:
        """See that a worker's copy of the model is the one that is meant."""
        if self.model is not None and self.model_id is not None:
            Adapter.of(self.model).require_same(self.model_id)

    def describe(self, shard: Shard) -> str:
        """The features."""
        ids = [i for block in shard.given for i in block.ids]
        more = f", ... ({len(ids)} of them)" if len(ids) > 3 else ""
        return f"features {', '.join(map(str, ids[:3]))}{more}"

    def open(self) -> Callable[[Shard], Partial]:
        """What each file of a shard says."""
        features = FeatureDictionary.load(self.store)
        features = replace(features, source=self.source)

        def work(shard: Shard) -> Partial:
            blocks: Sequence[Block] = shard.given
            ids = [i for block in blocks for i in block.ids]
            made = profiles(features, ids, self.options)
            found = {}
            for block in blocks:
                some = tuple(next(made) for _ in block.ids)
                texts = texts_of(features.database, shown_tokens(some))
                body = np.frombuffer(block.body(_content(some, texts)), dtype=np.uint8)
                found[block.name] = torch.from_numpy(body.copy())
            return found

        return work


def _content(found: Sequence[Profile], texts: Mapping[int, str]) -> dict[str, Any]:
    said = {str(one.feature): plain(one) for one in found}
    return {"index": index_columns(found), "texts": plain(texts), "profiles": said}


def shards_of_files(blocks: Sequence[Block], size: int) -> list[Shard]:
    """Divide files of data.

    The model is run once for each shard, over all prompts of its windows: a shard of many features
    shares them, and one of few leaves something for other workers.

    Args:
        size: features in a file.
    """
    step = max(1, min(CHUNK // size, len(blocks) // FEWEST))
    parts = [tuple(blocks[i : i + step]) for i in range(0, len(blocks), step)]
    ends = np.cumsum([0, *(sum(len(block.ids) for block in part) for part in parts)]).tolist()
    return [Shard(i, ends[i], ends[i + 1], part) for i, part in enumerate(parts)]


@dataclass(frozen=True)
class PageFolder:
    """Where the files of data are kept."""

    path: Path

    def has(self, shard: Shard) -> bool:
        """Whether all files of a shard are there, whole and of their keys."""
        return all(block.finished(self.path) for block in shard.given)

    def write(self, shard: Shard, partial: Partial) -> None:
        """Write those that are not."""
        for block in shard.given:
            if not block.finished(self.path):
                block.write(self.path, partial[block.name].numpy().tobytes())
