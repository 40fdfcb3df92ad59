"""`make_tables`: what the activations of a corpus become, in a store beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_circuits._version import __version__
from sae_circuits.features.activations import Activations
from sae_circuits.features.folders import CORPUS, STORE
from sae_circuits.features.relations_job import RelationsJob, related
from sae_circuits.features.store.database import Database, Table
from sae_circuits.features.store.tables import Contents, store_tables
from sae_circuits.features.store.weights import Weights, neighbour_rows
from sae_circuits.shards import Means, Workers

RELATIONS = "relations"  # what is done of them, until all is


def make_tables(
    folder: Path,
    activations: Activations,
    contents: Contents,
    made: list[str],
    weights: Weights,
    hosted: str | None,
    workers: Workers | None = None,
    *,
    stays: bool,
) -> Database:
    """Make the tables, and put them beside the shards.

    Args:
        folder: of the store, whose activations are in it.
        made: the identity of each extraction.
        hosted: the dictionary's id on Neuronpedia.
        workers: what finds the features nearest to each; this process by default.
        stays: whether the folder is still there if this fails.

    Raises:
        ShardError: some features failed, on workers or where the folder stays.
        OutputError: it cannot be written, or the disk is full.
    """
    activations.corpus.save(folder / CORPUS)
    meta = _meta(activations, contents, made, hosted)
    asked = contents.neighbours, activations.memory, activations
    job = RelationsJob(folder.resolve(), meta, *asked)
    found = related(job, activations, Means(workers, folder / RELATIONS if stays else None))

    def tables() -> Iterator[tuple[str, Table]]:
        yield from store_tables(activations, contents, weights)
        yield "correlations", neighbour_rows(found)

    database = Database.create(folder / STORE, tables(), meta)
    remove_left(folder)
    return database


def remove_left(folder: Path) -> None:
    """Remove what was kept until the store was written."""
    shutil.rmtree(folder / RELATIONS, ignore_errors=True)


def _meta(
    activations: Activations, contents: Contents, made: list[str], hosted: str | None
) -> dict[str, Any]:
    """What a store says of itself."""
    corpus = activations.corpus
    return {
        "version": __version__,
        "made": made,
        "source": dict(activations.source),
        "corpus": {
            "name": corpus.name,
            "id": corpus.fingerprint,
            "prompts": corpus.n_prompts,
            "tokens": corpus.n_tokens,
            "counted": activations.n_counted,
        },
        "gap": corpus.vocabulary.gap,
        "masks": activations.masks.record,
        "contents": contents.record,
        "pieces": [piece.first_prompt for piece in activations.pieces],
        "features": activations.n_features,
        "names": None if activations.names is None else list(activations.names),
        "related": {},
        "neuronpedia": hosted,
    }
