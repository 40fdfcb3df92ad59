"""`extract`: one pass over a corpus, which keeps what every feature does and no more.

Tokens are run some prompts at a time. Of a batch's activations those that are not 0 are kept, and
once they fill a share of the memory they are sorted by feature and written as a shard. What a
prompt's activations are hangs neither on the batches nor on the shards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor

from sae_circuits._version import __version__
from sae_circuits.disk.atomic import ready_folder
from sae_circuits.errors import CorpusError, NumericalError, OptionError
from sae_circuits.features.activations import Activations, Piece
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.masks import Masks
from sae_circuits.features.shards import Shard
from sae_circuits.features.sources import Source, require_finite
from sae_circuits.progress import bar
from sae_circuits.sizes import Memory, in_bytes

HELD_BYTES = 40  # of one activation until its shard is written: unsorted, sorted, and the order
DENSE_BYTES = 12  # of one feature on one token as it is encoded
LEAST = 1 << 26
MOST_TOKENS = 1 << 31  # of a shard, whose places have 32 bits


def extract(
    source: Source,
    corpus: Corpus,
    masks: Masks | None = None,
    *,
    out: str | Path | None = None,
    batch_tokens: int = 8192,
    memory: Memory = 1 << 30,
) -> Activations:
    """Run a corpus through a source.

    Args:
        source: see `sources`.
        corpus: the tokens.
        masks: which tokens count; by default all but special ones.
        out: a folder for the shards; one that holds some of the same extraction is gone on with.
            In memory by default.
        batch_tokens: tokens to run at a time.
        memory: to stay under, beside the model's own run, such as "4GiB"; 64 MiB at least.

    Raises:
        CorpusError: prompts or tokens that the model cannot take; masks that leave no token.
        NumericalError: activations that are not finite, with prompt and position.
        StoreError: a folder with shards of other data.
        OutputError: a folder that cannot be written, or a full disk; what is written stays.
        OptionError: sizes too small.
    """
    masks = Masks() if masks is None else masks
    if batch_tokens < 1:
        raise OptionError(f"batch_tokens={batch_tokens!r}: give 1 or more")
    size = in_bytes(memory, least=LEAST)
    source.check(corpus)
    counted = masks.counted(corpus)
    if not counted.any():
        raise CorpusError(f"{masks!r} leave no token of {corpus!r} to count")
    run = _Pass(source, corpus, masks, counted, batch_tokens, size)
    identity = identity_of(source.record, corpus, masks)
    folder = None if out is None else ready_folder(out)
    shards = [] if folder is None else list(held_shards(folder, identity))
    done = shards[-1].stop if shards else 0
    with bar(total=corpus.n_tokens, description="features", unit="token") as progress:
        progress.update(int(corpus.starts[done]))
        for shard in run.shards(done, progress.update):
            if folder is not None:
                shard = shard.save(folder / _name(len(shards)), identity)
            shards.append(shard)
    found = Activations(
        corpus, masks, source.n_features, source.record, (Piece(tuple(shards)),),
        None if source.names is None else tuple(source.names), size,
    )  # fmt: skip
    if not found.n_counted:
        raise CorpusError(
            f"{masks!r} leave no token of {corpus!r} to count: every norm is above max_norm"
        )
    return found


def identity_of(record: Mapping[str, Any], corpus: Corpus, masks: Masks) -> str:
    """A hash over all that decides the content of shards."""
    said = [record, corpus.fingerprint, masks.record, __version__]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def held_shards(folder: Path, identity: str | None = None) -> tuple[Shard, ...]:
    """The shards that a folder holds, in order.

    Args:
        identity: of the extraction that they have to be of.

    Raises:
        StoreError: of other data.
        FileFormatError: damaged.
    """
    shards: list[Shard] = []
    while (path := folder / _name(len(shards))).exists():
        shards.append(Shard.open(path, identity))
    return tuple(shards)


def _name(i: int) -> str:
    return f"{i:05}.safetensors"


Found = tuple[
    Int32[np.ndarray, "active"],
    Int32[np.ndarray, "active"],
    Float32[np.ndarray, "active"],
    Int32[np.ndarray, "outlier"],
]
"""Places from a first prompt on, features and values; and tokens whose norm is too large."""


@dataclass(frozen=True, eq=False)
class _Pass:
    source: Source
    corpus: Corpus
    masks: Masks
    counted: Bool[np.ndarray, "token"]
    batch_tokens: int
    memory: int

    def shards(self, done: int, tell: Callable[[int], object]) -> Iterator[Shard]:
        """Shards of all prompts but those that are done."""
        n_features, starts = self.source.n_features, self.corpus.starts
        kept, first, n_active = list[Found](), done, 0
        for start, stop in self._batches(done):
            found = self._batch(start, stop, int(starts[first]))
            kept.append(found)
            n_active += len(found[0])
            full = n_active >= self.memory // 2 // HELD_BYTES
            full |= starts[stop] - starts[first] > MOST_TOKENS - self.batch_tokens
            if full or stop == self.corpus.n_prompts:
                whole = map(np.concatenate, zip(*kept, strict=True))
                yield Shard.of(first, stop, n_features, *whole)
                kept, first, n_active = [], stop, 0
            tell(int(starts[stop] - starts[start]))

    def _batches(self, done: int) -> Iterator[tuple[int, int]]:
        """Prompts in a row that have so many tokens together, or one prompt."""
        starts, n_prompts = self.corpus.starts, self.corpus.n_prompts
        while done < n_prompts:
            end = starts[done] + self.batch_tokens
            stop = max(done + 1, int(np.searchsorted(starts, end, side="right")) - 1)
            yield done, stop
            done = stop

    def _batch(self, start: int, stop: int, origin: int) -> Found:
        """What is active on some prompts; places count from an origin on."""
        source, here = self.source, slice(*self.corpus.starts[[start, stop]])
        x = source.read(self.corpus, start, stop)
        require_finite(x, self.corpus, start)
        counted = self.counted[here]
        within = self.masks.within(x.float().norm(dim=1).cpu().numpy())
        rows = torch.as_tensor(np.flatnonzero(counted & within))
        size = max(16, self.memory // 2 // (DENSE_BYTES * source.n_features))
        each = [self._active(x, some) for some in rows.split(size)]
        row, features, values = map(np.concatenate, zip(*each, strict=True))
        self._require_finite(here.start + row, features, values)
        offset, outliers = here.start - origin, np.flatnonzero(counted & ~within)
        return (row + offset).astype(np.int32), features, values, (outliers + offset).astype("i4")

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
                f"feature {features[bad[0]]} is {values[bad[0]]} at prompt {prompt}, position "
                f"{pos}: its weights overflow there; take float32, or leave the prompt out"
            )
