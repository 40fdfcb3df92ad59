"""A corpus as one safetensors file: tokens, where prompts begin, and the vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sae_circuits.errors import CorpusError, FileFormatError
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.vocabulary import Vocabulary
from sae_circuits.io.arrays import read_arrays, write_arrays

KIND, SCHEMA = "corpus", 1


def save_corpus(corpus: Corpus, path: str | Path) -> Path:
    """Write a corpus to one file, whole or not at all.

    Raises:
        OutputError: the name does not end in ".safetensors", or the place cannot be written.
    """
    vocabulary = corpus.vocabulary
    said = {
        "texts": vocabulary.texts,
        "special": sorted(vocabulary.special),
        "between": vocabulary.between,
    }
    arrays = {
        "tokens": corpus.tokens,
        "starts": corpus.starts,
        "vocabulary": np.frombuffer(json.dumps(said).encode("ascii"), dtype=np.uint8),
    }
    return write_arrays(path, KIND, SCHEMA, arrays, {"name": corpus.name})


def load_corpus(path: str | Path) -> Corpus:
    """Read what `save_corpus` wrote; its tokens stay on the disk until they are asked for.

    Raises:
        FileFormatError: the file is missing, damaged, of another kind, or of a newer version.
    """
    arrays, about = read_arrays(path, KIND, SCHEMA)
    try:
        said = json.loads(arrays["vocabulary"].tobytes())
        vocabulary = Vocabulary(tuple(said["texts"]), frozenset(said["special"]), said["between"])
        return Corpus(arrays["tokens"], arrays["starts"], vocabulary, about["name"])
    except (CorpusError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{str(path)!r} does not hold what it says: {error}") from error
