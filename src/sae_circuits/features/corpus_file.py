"""A corpus as one safetensors file: tokens, where prompts begin, and the vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sae_circuits.disk.arrays import open_arrays, write_arrays
from sae_circuits.errors import CorpusError, FileFormatError, OutputError
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.vocabulary import Vocabulary

KIND, SCHEMA = "corpus", 1


def save_corpus(corpus: Corpus, path: str | Path) -> Path:
    """Write a corpus to one file, whole or not at all.

    Raises:
        OutputError: the name does not end in ".safetensors", or the place cannot be written.
    """
    path, vocabulary = Path(path), corpus.vocabulary
    if path.suffix != ".safetensors":
        raise OutputError(f"cannot save a corpus as {str(path)!r}: end the name in '.safetensors'")
    said = {
        "texts": vocabulary.texts,
        "special": sorted(vocabulary.special),
        "gap": vocabulary.gap,
    }
    arrays = {
        "tokens": corpus.tokens,
        "starts": corpus.starts,
        "vocabulary": np.frombuffer(json.dumps(said).encode("ascii"), dtype=np.uint8),
    }
    record = {"name": corpus.name, "fingerprint": corpus.fingerprint}
    return write_arrays(path, KIND, SCHEMA, arrays, record)


def load_corpus(path: str | Path) -> Corpus:
    """Read what `save_corpus` wrote.

    Raises:
        FileFormatError: the file is missing, damaged, of another kind, or of a newer version.
    """
    held = open_arrays(path, KIND, SCHEMA)
    try:
        said = json.loads(held["vocabulary"].tobytes())
        vocabulary = Vocabulary(tuple(said["texts"]), frozenset(said["special"]), said["gap"])
        corpus = Corpus(held["tokens"], held["starts"], vocabulary, held.record["name"])
        fits = corpus.fingerprint == held.record["fingerprint"]
    except (CorpusError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{str(path)!r} does not hold what it says: {error}") from error
    if not fits:
        raise FileFormatError(
            f"{str(path)!r} is damaged or was changed: its tokens are not those that were saved; "
            "make it again"
        )
    return corpus
