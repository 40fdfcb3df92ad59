"""The extraction of activations as a job, whose shards are prompts in a row.

How prompts are divided hangs on the corpus and the source alone, so that a store is the same
whatever made it. Memory decides only how much of a shard is sorted at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor

from sae_circuits.disk.arrays import Arrays, open_arrays, write_arrays
from sae_circuits.errors import NumericalError, require
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.masks import Masks
from sae_circuits.features.sources import (
    DictionarySource,
    HeldSource,
    Source,
    model_of,
    require_finite,
)
from sae_circuits.features.stretches import by_feature, joined
from sae_circuits.features.vocabulary import Vocabulary
from sae_circuits.models.adapter import Adapter
from sae_circuits.shards import Job, Partial, Shard, fingerprint

HELD_BYTES = 40  # of one activation until it is sorted: twice as it was found, and the order
DENSE_BYTES = 12  # of one feature on one token as it is encoded
FEWEST, LARGEST = 1 << 14, 1 << 18  # tokens of a shard
MOST = 128  # shards, unless they would be too large
ACTIVE, AT_MOST = 128, 1 << 25  # features of a dictionary on a token, and activations of a shard
PART = "part of a stretch", 1


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a worker is given of a corpus: some prompts in a row.

    Args:
        tokens: of these.
        starts: where each begins, from 0.
        counted: which tokens count, as far as the corpus says it.
        held: activations, of a source that holds them.
    """

    tokens: Int32[np.ndarray, "token"]
    starts: Int64[np.ndarray, "bound"]
    counted: Bool[np.ndarray, "token"]
    held: Float[Tensor, "token feature"] | None

    def __getstate__(self) -> dict[str, Any]:  # of a part of a tensor torch would send the whole
        return {**vars(self), "held": None if self.held is None else self.held.clone()}


Found = tuple[
    Int32[np.ndarray, "active"],
    Int32[np.ndarray, "active"],
    Float32[np.ndarray, "active"],
    Int32[np.ndarray, "outlier"],
]
"""Places from the shard's first token on, features and values; tokens whose norm is too large."""


def ranges_of(source: Source, corpus: Corpus, counted: Bool[np.ndarray, "token"]) -> list[Shard]:
    """Divide a corpus into prompts in a row, each with what a worker needs of them.

    They hold 16 thousand tokens, so that a few workers have something to share of a small corpus;
    more of a large one, so that there are not too many files, but never over 262 thousand, nor
    where every feature may be active on every token over 33 million activations: what a worker can
    hold.
    """
    active = min(source.n_features, ACTIVE if isinstance(source, DictionarySource) else 1 << 62)
    size = min(max(FEWEST, -(-corpus.n_tokens // MOST)), LARGEST, max(1, AT_MOST // active))
    found = list[Shard]()
    for start, stop in _rows(corpus.starts, size):
        first, last = corpus.starts[[start, stop]].tolist()
        held = source.held[first:last] if isinstance(source, HeldSource) else None
        starts = corpus.starts[start : stop + 1] - first
        given = Prompts(corpus.tokens[first:last], starts, counted[first:last], held)
        found.append(Shard(len(found), start, stop, given))
    return found


def _rows(starts: Int64[np.ndarray, "bound"], size: int) -> Iterator[tuple[int, int]]:
    """Prompts in a row that have so many tokens together, or one prompt."""
    done, n_prompts = 0, len(starts) - 1
    while done < n_prompts:
        end = starts[done] + size
        stop = max(done + 1, int(np.searchsorted(starts, end, side="right")) - 1)
        yield done, stop
        done = stop


def said_of(record: Mapping[str, Any], corpus: Corpus, masks: Masks) -> dict[str, Any]:
    """All that decides what an extraction finds, in plain values."""
    require("corpus", corpus, Corpus, "a Corpus, such as Corpus.from_texts(model, [...]) makes")
    names = {"names": fingerprint(record["names"])} if record.get("names") else {}
    return {**record, **names, "corpus": [corpus.name, corpus.fingerprint], "masks": masks.record}


@dataclass(frozen=True, eq=False)
class ExtractionJob(Job):
    """A source on the prompts of a corpus, of which every shard holds its own.

    Args:
        source: see `sources`; without what it holds.
        masks: which tokens count.
        vocabulary: of the corpus.
        decided: see `said_of`.
        batch_tokens: tokens to run at a time.
        memory: bytes to stay under, beside the model's own run and the shard as it is kept.
    """

    source: Source
    masks: Masks
    vocabulary: Vocabulary
    decided: Mapping[str, Any]
    batch_tokens: int
    memory: int

    name = "extraction"
    unit = "prompt"

    @classmethod
    def of(
        cls, source: Source, corpus: Corpus, masks: Masks, *, batch_tokens: int, memory: int
    ) -> ExtractionJob:
        """Of a source on a corpus."""
        said = said_of(source.record, corpus, masks)
        if isinstance(source, HeldSource):
            source = replace(source, held=source.held[:0])
        return cls(source, masks, corpus.vocabulary, said, batch_tokens, memory)

    @property
    def said(self) -> Mapping[str, Any]:
        """All that decides what is active."""
        return self.decided

    @property
    def model(self) -> Any:
        """The model that the source runs, if it runs one."""
        return model_of(self.source)

    def check(self) -> None:
        """See that a worker's copy of the model is the one that is meant."""
        if self.model is not None:
            Adapter.of(self.model).require_same(self.said["model"]["id"])

    def describe(self, shard: Shard) -> str:
        """The prompts, and how the first of them begins."""
        first = shard.given.tokens[: shard.given.starts[1]][:8]
        text = self.vocabulary.read(first.tolist())
        return f"prompts {shard.start} to {shard.stop - 1} ({text!r}, ...)"

    def open(self) -> Callable[[Shard], Partial]:
        """What is active on a shard's prompts, sorted by feature."""

        def work(shard: Shard) -> Partial:
            given: Prompts = shard.given
            source: Any = self.source
            if given.held is not None:
                source = replace(source, held=given.held)
            corpus = Corpus(given.tokens, given.starts, self.vocabulary)
            arrays = _Stretch(self, source, corpus, given.counted, shard.start).arrays()
            return {name: torch.from_numpy(array) for name, array in arrays.items()}

        return work


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A shard at work.

    Args:
        corpus: its prompts alone.
        counted: which of its tokens count, as far as the corpus says it.
        first: of its prompts in the whole corpus.
    """

    job: ExtractionJob
    source: Source
    corpus: Corpus
    counted: Bool[np.ndarray, "token"]
    first: int

    def arrays(self) -> dict[str, np.ndarray]:
        """What is active on all prompts; sorted in parts, on disk, where memory asks for it."""
        with tempfile.TemporaryDirectory(prefix="sae-circuits-") as folder:
            kept, n_active, parts = list[tuple[np.ndarray, ...]](), 0, list[Arrays]()
            for start, stop in _rows(self.corpus.starts, self.job.batch_tokens):
                found = self._batch(start, stop)
                kept.append(found)
                n_active += len(found[0])
                if n_active >= self.job.memory // 2 // HELD_BYTES and stop < len(self.corpus):
                    path = Path(folder) / f"{len(parts)}.safetensors"
                    write_arrays(path, *PART, self._sorted(kept), {})
                    parts.append(open_arrays(path, *PART))
                    kept, n_active = [], 0
            last = self._sorted(kept)
            del kept
            return joined([*parts, last]) if parts else last

    def _sorted(self, kept: Sequence[tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
        return by_feature(self.source.n_features, *map(np.concatenate, zip(*kept, strict=True)))

    def _batch(self, start: int, stop: int) -> Found:
        """What is active on some prompts."""
        source, here = self.source, slice(*self.corpus.starts[[start, stop]].tolist())
        x = source.read(self.corpus, start, stop)
        require_finite(x, self.corpus, start, self.first)
        counted = self.counted[here]
        within = self.job.masks.within(x.float().norm(dim=1).cpu().numpy())
        rows = torch.as_tensor(np.flatnonzero(counted & within))
        size = max(16, self.job.memory // 2 // (DENSE_BYTES * source.n_features))
        each = [self._active(x, some) for some in rows.split(size)]
        row, features, values = map(np.concatenate, zip(*each, strict=True))
        self._require_finite(here.start + row, features, values)
        outliers = here.start + np.flatnonzero(counted & ~within)
        places = (row + here.start).astype(np.int32)
        return places, features, values, outliers.astype(np.int32)

    def _active(
        self, x: Float[Tensor, "token d_in"], rows: Int64[Tensor, "row"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, features and values of what is active."""
        index, found = self.source.activations(x[rows.to(x.device)])
        values = found.float().cpu().numpy()
        row, feature = np.divmod(index.cpu().numpy(), self.source.n_features)
        real = values != 0
        return rows.numpy()[row[real]], feature[real].astype(np.int32), values[real]

    def _require_finite(
        self,
        places: Int64[np.ndarray, "active"],
        features: Int32[np.ndarray, "active"],
        values: Float32[np.ndarray, "active"],
    ) -> None:
        """Raise a `NumericalError` that names the first feature whose value is not finite."""
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            (prompt,), (pos,) = self.corpus.locate(places[bad[:1]])
            raise NumericalError(
                f"feature {features[bad[0]]} is {values[bad[0]]} at prompt {self.first + prompt}, "
                f"position {pos}: its weights overflow there; take float32, or leave the prompt out"
            )
