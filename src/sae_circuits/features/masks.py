"""Which tokens count, in every statistic, example, correlation and quantile alike."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from sae_circuits.errors import CorpusError, OptionError
from sae_circuits.features.corpus import Corpus
from sae_circuits.features.vocabulary import Vocabulary


@dataclass(frozen=True)
class Masks:
    """Which tokens of a corpus count.

    Args:
        special: whether special tokens, such as the one that a prompt begins with, count too.
        skip_tokens: tokens that do not count, as ids or as texts.
        skip_positions: positions that do not count, from 0; -1 is a prompt's last.
        max_norm: tokens do not count where the activations that the dictionary reads have a larger
            L2 norm; None for no such limit.

    Raises:
        OptionError: what is no token or position, or a limit that is not a positive number.

    >>> Masks(skip_tokens=["the", 5], skip_positions=[0]).record["skip_tokens"]
    (5, 'the')
    """

    special: bool = False
    skip_tokens: Sequence[int | str] = ()
    skip_positions: Sequence[int] = ()
    max_norm: float | None = None

    def __post_init__(self) -> None:
        tokens = _listed("skip_tokens", self.skip_tokens, (int, str))
        positions = _listed("skip_positions", self.skip_positions, (int,))
        ids = sorted(token for token in tokens if not isinstance(token, str))
        texts = sorted(token for token in tokens if isinstance(token, str))
        object.__setattr__(self, "skip_tokens", (*ids, *texts))
        object.__setattr__(self, "skip_positions", tuple(sorted(positions)))
        if self.max_norm is None:
            return
        object.__setattr__(self, "max_norm", float(self.max_norm))
        if not (math.isfinite(self.max_norm) and self.max_norm > 0):
            raise OptionError(
                f"max_norm={self.max_norm}: give a positive number, or None for no limit"
            )

    # -- which tokens --------------------------------------------------------------------------

    def counted(self, corpus: Corpus) -> Bool[np.ndarray, "token"]:
        """Which tokens count, as far as the corpus says it: all but what `within` decides.

        Raises:
            CorpusError: a token that the vocabulary lacks, or a position that no prompt has.
        """
        skipped = np.zeros(len(corpus.vocabulary), dtype=bool)
        for token in self.skip_tokens:
            skipped[_ids(corpus.vocabulary, token)] = True
        if not self.special:
            skipped |= corpus.vocabulary.is_special
        counts = ~skipped[corpus.tokens]
        for position in self.skip_positions:
            counts[_places(corpus, position)] = False
        return counts

    def within(self, norms: Float[np.ndarray, "*some"]) -> Bool[np.ndarray, "*some"]:
        """Which tokens count by the L2 norm of what the dictionary reads there.

        >>> Masks(max_norm=2.0).within(np.array([1.0, 2.0, 3.0])).tolist()
        [True, True, False]
        """
        if self.max_norm is None:
            return np.ones(norms.shape, dtype=bool)
        return norms <= self.max_norm

    # -- provenance ------------------------------------------------------------------------------

    @property
    def record(self) -> dict[str, Any]:
        """All that decides, as plain values in a fixed order; `Masks(**record)` is the same."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """A hash of the record."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:16]


def _listed(name: str, values: Any, kinds: tuple[type, ...]) -> set[Any]:
    """The values as plain ints and strings, each once."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise OptionError(f"{name}={values!r}: give a list, such as [{values!r}]")
    plain = [value.item() if isinstance(value, np.integer) else value for value in values]
    for value in plain:
        if not isinstance(value, kinds) or isinstance(value, bool):
            wanted = " or ".join({int: "whole numbers", str: "texts"}[kind] for kind in kinds)
            raise OptionError(f"{name} holds {value!r}: give {wanted}")
    return set(plain)


def _ids(vocabulary: Vocabulary, token: int | str) -> list[int]:
    """The ids that are meant by an id or by a text."""
    if isinstance(token, int):
        if not 0 <= token < len(vocabulary):
            raise CorpusError(
                f"skip_tokens holds the id {token}: the vocabulary has ids 0 to "
                f"{len(vocabulary) - 1}"
            )
        return [token]
    if found := [i for i, text in enumerate(vocabulary.texts) if text == token]:
        return found
    plain = token.strip().lower()
    near = [text for text in vocabulary.texts if plain and text.strip().lower() == plain][:3]
    guess = f": did you mean {' or '.join(map(repr, near))}?" if near else "; take one's id"
    raise CorpusError(
        f"skip_tokens holds {token!r}, and no token of the vocabulary reads so{guess}"
    )


def _places(corpus: Corpus, position: int) -> np.ndarray:
    """Where in the corpus a position is, of all prompts that have it."""
    if not -corpus.longest <= position < corpus.longest:
        raise CorpusError(
            f"skip_positions holds {position}, which no prompt has: the longest one has "
            f"{corpus.longest} tokens, 0 to {corpus.longest - 1} or -1 to -{corpus.longest}"
        )
    begins, ends = corpus.starts[:-1], corpus.starts[1:]
    places = begins + position if position >= 0 else ends + position
    return places[(places >= begins) & (places < ends)]
