"""The folder of a store: its tables in one file, the corpus in another, and shards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_circuits.disk.atomic import ready_folder
from sae_circuits.errors import OutputError, StoreError
from sae_circuits.features.activations import Activations
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.extraction import held_piece, prompts_held
from sae_circuits.features.masks import Masks

STORE, CORPUS, SHARDS = "features.duckdb", "corpus.safetensors", "activations"


def room(out: str | Path | None, *, empty: bool = False) -> tuple[Path, Any]:
    """A folder to write to; without a name a temporary one, and what keeps it.

    Raises:
        OutputError: it cannot be written, or holds something and has to be empty.
    """
    if out is None:
        held = tempfile.TemporaryDirectory(prefix="sae-circuits-")
        return Path(held.name), held
    folder = ready_folder(out)
    if empty and any(folder.iterdir()):
        raise OutputError(f"{str(folder)!r} is not empty: choose another folder")
    return folder, None


def activations_in(folder: Path, meta: Mapping[str, Any]) -> Activations:
    """The activations that a store's record tells of.

    Raises:
        StoreError: there are none, some are missing, or they are of other data.
    """
    if not (folder / SHARDS).is_dir():
        raise StoreError(
            f"{str(folder)!r} holds no activations, as a store that was imported: for this, build "
            "the store, or load it where it was built"
        )
    corpus = Corpus.load(folder / CORPUS)
    if corpus.fingerprint != meta["corpus"]["id"]:
        raise StoreError(f"{str(folder / CORPUS)!r} is of another store")
    names = None if meta["names"] is None else tuple(meta["names"])
    pieces = tuple(
        held_piece(folder / SHARDS / str(i), made, first)
        for i, (made, first) in enumerate(zip(meta["made"], meta["pieces"], strict=True))
    )
    masks = Masks(**meta["masks"])
    return Activations(corpus, masks, meta["features"], meta["source"], pieces, names)


def prompts_done(folder: Path) -> int:
    """How many prompts a build has run whose store is not written yet.

    Raises:
        FileFormatError: a damaged file.
    """
    return prompts_held(folder / SHARDS / "0")


def copy_folder(folder: Path, into: Path) -> None:
    """Copy the files of an extraction to a folder that is not there yet.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    try:
        shutil.copytree(folder, into)
    except OSError as error:  # shutil's own holds one for each file
        raise OutputError(f"cannot write into {str(into)!r}: {error}") from error


def copy_store(folder: Path, into: Path) -> None:
    """Copy all of a store to an empty folder, or nothing.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    try:
        # The store last, since what has one is whole; before it what it has not yet taken in.
        for name in (CORPUS, SHARDS, f"{STORE}.wal", STORE):
            whole, part = folder / name, into / f".{name}.part"
            if whole.is_dir():
                shutil.copytree(whole, part)
            elif whole.exists():
                shutil.copy2(whole, part)
            if part.exists():
                os.replace(part, into / name)
    except BaseException as error:
        for left in into.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if not isinstance(error, OSError):
            raise
        raise OutputError(f"cannot write into {str(into)!r}: {error}") from error
