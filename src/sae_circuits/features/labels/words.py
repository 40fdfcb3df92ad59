"""Tokens as people read them: which are one word, and how a word is written in a label."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64

from sae_circuits.features.corpus import Vocabulary


def folded(text: str) -> str:
    r"""A token's word, without case and the space around it; white space stays as it is.

    >>> folded(" The"), folded("the"), folded("\n")
    ('the', 'the', '\n')
    """
    return text.strip().casefold() or text


def words_of(vocabulary: Vocabulary) -> Int64[np.ndarray, "vocab"]:
    """A number for each id, the same for those that differ in case and leading space only.

    A special token is a word of its own.
    """
    numbers: dict[object, int] = {}
    keys = (i if i in vocabulary.special else folded(t) for i, t in enumerate(vocabulary.texts))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def quoted(text: str) -> str:
    r"""A token's text between quotes, with what cannot be seen spelt out.

    >>> print(quoted(" a"), quoted("\n"), quoted('"'))
    " a" "\n" '"'
    """
    said = json.dumps(text, ensure_ascii=False)
    return "'" + said[1:-1].replace('\\"', '"') + "'" if '"' in text else said


def listed(texts: Iterable[str]) -> str:
    """Quoted texts in a row.

    >>> print(listed(["one", "two", "three"]))
    "one", "two" or "three"
    """
    *first, last = [quoted(text) for text in texts]
    return f"{', '.join(first)} or {last}" if first else last
