"""`extract`: a corpus run once, which keeps what every feature does and no more.

Prompts in a row are a shard; of their activations those that are not 0 are kept, sorted by feature.
What a prompt's activations are hangs neither on the batches nor on the shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_circuits._version import __version__
from sae_circuits.errors import CorpusError, FileFormatError, OptionError, StoreError
from sae_circuits.features.activations import Activations, Piece
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.extraction_job import ExtractionJob, ranges_of, said_of
from sae_circuits.features.masks import Masks
from sae_circuits.features.sources import Source
from sae_circuits.features.stretches import Stretch
from sae_circuits.shards import (
    Means,
    Shard,
    ShardFolder,
    Workers,
    fingerprint,
    keep_shards,
    run_shards,
)
from sae_circuits.sizes import Memory, in_bytes

LEAST = 1 << 26


def extract(
    source: Source,
    corpus: Corpus,
    masks: Masks | None = None,
    *,
    out: str | Path | None = None,
    batch_tokens: int = 8192,
    memory: Memory = 1 << 30,
    workers: Workers | None = None,
    stays: bool = True,
) -> Activations:
    """Run a corpus through a source.

    Args:
        source: see `sources`.
        corpus: the tokens.
        masks: which tokens count; by default all but special ones.
        out: a folder for the shards; one that holds some of the same extraction is gone on with.
            In memory by default.
        batch_tokens: tokens to run at a time.
        memory: to stay under, beside the model's own run, such as "4GiB"; 64 MiB at least; of each
            worker. A shard that needs more is sorted in parts, on disk.
        workers: what runs the prompts; this process by default (see `sae_circuits.workers`).
        stays: whether the folder is still there if the run fails.

    Raises:
        CorpusError: prompts or tokens that the model cannot take; masks that leave no token.
        NumericalError: activations that are not finite, with prompt and position; in this process
            and without a folder that stays.
        ShardError: likewise, else: those shards are told of, and the others kept.
        OutputError: a folder with shards of other data, or that cannot be written, or a full disk;
            what is written stays.
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
    job = ExtractionJob.of(source, corpus, masks, batch_tokens=batch_tokens, memory=size)
    piece = _piece(job, ranges_of(source, corpus, counted), out, workers, stays=stays)
    names = None if source.names is None else tuple(source.names)
    made = source.n_features, source.record, (piece,), names, size
    found = Activations(corpus, masks, *made)
    if not found.n_counted:
        raise CorpusError(
            f"{masks!r} leave no token of {corpus!r} to count: every norm is above max_norm"
        )
    return found


def _piece(
    job: ExtractionJob,
    shards: Sequence[Shard],
    out: str | Path | None,
    workers: Workers | None,
    *,
    stays: bool,
) -> Piece:
    """All shards, in a folder or in memory."""
    if out is None:
        partials = run_shards(job, shards, Means(workers))
        each = ({name: x.numpy() for name, x in partial.items()} for partial in partials)
        found = (Stretch(s.start, s.stop, one) for s, one in zip(shards, each, strict=True))
        return Piece(tuple(found))
    folder = ShardFolder.open(out, job, shards)
    keep_shards(job, shards, folder, workers, resumable=stays)
    return _held(folder)


def _held(folder: ShardFolder, first_prompt: int = 0) -> Piece:
    found = (Stretch(s.start, s.stop, folder.arrays(s)) for s in folder.shards)
    return Piece(tuple(found), first_prompt, folder.path)


def identity_of(record: Mapping[str, Any], corpus: Corpus, masks: Masks) -> str:
    """A hash over all that decides the content of an extraction."""
    return fingerprint({**said_of(record, corpus, masks), "sae-circuits": __version__})


def held_piece(path: Path, identity: str, first_prompt: int) -> Piece:
    """What the folder of an extraction holds.

    Args:
        identity: of the extraction that it has to be.
        first_prompt: of its corpus in a larger one.

    Raises:
        StoreError: it is of other data, or some of it is missing.
        FileFormatError: damaged.
    """
    lacking = StoreError(f"{str(path)!r} lacks shards: build the store again")
    if not path.is_dir():
        raise lacking
    folder = ShardFolder.load(path)
    said = {name: value for name, value in folder.said.items() if name not in ("job", "shards")}
    if fingerprint(said) != identity:
        raise StoreError(
            f"{str(path)!r} holds activations of other data than its store: remove the store, and "
            "build it again"
        )
    if not all(folder.has(shard) for shard in folder.shards):
        raise lacking
    return _held(folder, first_prompt)


def prompts_held(path: Path) -> int:
    """How many prompts are done of the extraction in a folder, if there is one.

    Raises:
        FileFormatError: a damaged file.
    """
    try:
        folder = ShardFolder.load(path)
    except FileFormatError:
        return 0
    return sum(shard.stop - shard.start for shard in folder.shards if folder.has(shard))
