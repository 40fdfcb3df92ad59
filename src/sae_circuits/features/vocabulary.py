"""What token ids stand for, as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from sae_circuits.errors import CorpusError

_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACED = "\ufffd"  # what a decoder gives for bytes that are no whole character


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What each token id stands for, as people read it.

    Args:
        texts: of each id, with the space or line break that it begins with.
        special: ids of tokens that are no text: begin, end, padding and their like.
        gap: what stands between two tokens in a text: a space where tokens are words.

    Raises:
        CorpusError: a text with half a character (a lone surrogate), which no file can hold.
    """

    texts: tuple[str, ...]
    special: frozenset[int] = frozenset()
    gap: str = ""

    def __post_init__(self) -> None:
        for token, text in enumerate(self.texts):
            if _SURROGATE.search(text):
                raise CorpusError(
                    f"the text of token {token}, {text!r}, holds half a character: show its bytes, "
                    "such as '<0xED>'"
                )

    @classmethod
    def of(cls, model: Any) -> Vocabulary:
        r"""The vocabulary of a model, with all of its ids, or of a tokenizer.

        A token is what it adds to a text. One that is part of a character shows its bytes, such as
        `<0xE2>`; an id that the tokenizer lacks, or any where there is no tokenizer, shows itself,
        as `<id 5>`.

        Args:
            model: a model, a tokenizer, or a vocabulary, which comes back as it is.

        Raises:
            CorpusError: there is neither a tokenizer nor a model that says how many ids it has.

        >>> import sae_circuits as sc
        >>> vocabulary = Vocabulary.of(sc.load_model("demo"))
        >>> len(vocabulary), vocabulary[7], sorted(vocabulary.special)
        (553, 'to', [0, 1, 2])
        """
        if isinstance(model, cls):
            return model
        tokenizer, size = tokenizer_of(model), getattr(getattr(model, "cfg", None), "d_vocab", None)
        if tokenizer is None:
            if size is None:
                raise CorpusError(
                    f"{type(model).__name__} has no vocabulary: pass a model, a tokenizer or a "
                    "Vocabulary"
                )
            return cls(tuple(map(_unnamed, range(size))))
        size = size or max(tokenizer.get_vocab().values()) + 1
        core = getattr(tokenizer, "backend_tokenizer", None)
        special = frozenset(token for token in _special(tokenizer) if token < size)
        gap = " " if core is not None and core.decoder is None else ""
        return cls(tuple(_texts(tokenizer, size, special, gap)), special, gap)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, token: int) -> str:
        return self.texts[token]

    @cached_property
    def is_special(self) -> Bool[np.ndarray, "vocab"]:
        """Which ids are special."""
        found = np.zeros(len(self), dtype=bool)
        found[sorted(self.special)] = True
        return found

    def read(self, tokens: Sequence[int] | Int32[np.ndarray, "some"]) -> str:
        """What tokens read, one after the other.

        >>> Vocabulary(("The", "key", "keys"), gap=" ").read([0, 2])
        'The keys'
        """
        return self.gap.join(self.texts[int(token)] for token in tokens)


def tokenizer_of(model: Any) -> Any:
    """A model's tokenizer, or a tokenizer itself; None where there is none."""
    tokenizer = getattr(model, "tokenizer", model)
    return tokenizer if callable(getattr(tokenizer, "encode", None)) else None


def _unnamed(token: int) -> str:
    return f"<id {token}>"


def _special(tokenizer: Any) -> set[int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}


def _texts(tokenizer: Any, size: int, special: frozenset[int], gap: str) -> list[str]:
    """The text of each id, read off the difference that it makes to one that comes before it."""
    names = _names(tokenizer, size)
    known = [token for token, name in enumerate(names) if name is not None]
    before = list(tokenizer.encode("a", add_special_tokens=False)) if not gap else []
    (start,) = _decoded(tokenizer, [before])
    texts = list(map(_unnamed, range(size)))
    whole = _decoded(tokenizer, [[*before, token] for token in known])
    alone: dict[int, str] = {}
    if odd := [i for i, text in zip(known, whole, strict=True) if not text.startswith(start)]:
        alone = dict(zip(odd, _decoded(tokenizer, [[token] for token in odd]), strict=True))
    for token, text in zip(known, whole, strict=True):
        name = str(names[token])
        added = name if token in special else alone.get(token, text[len(start) :])
        if not added or _REPLACED in added:
            added = _with_bytes(name) or added or name
        texts[token] = added
    return texts


def _names(tokenizer: Any, size: int) -> list[str | None]:
    """Each id's own name in the tokenizer, None where it has none."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None:
        return [core.id_to_token(token) for token in range(size)]
    named = {token: name for name, token in tokenizer.get_vocab().items()}
    return [named.get(token) for token in range(size)]


def _decoded(tokenizer: Any, rows: Sequence[Sequence[int]]) -> list[str]:
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None:
        return core.decode_batch(rows, skip_special_tokens=False)
    return [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in rows]


def _with_bytes(name: str) -> str | None:
    """The text of a byte-level token, with bytes that are no whole character as `<0xE2>`."""
    letters = _byte_letters()
    if any(letter not in letters for letter in name):
        return None
    text = bytes(letters[letter] for letter in name).decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda found: f"<0x{ord(found[0]) - 0xDC00:02X}>", text)


@cache
def _byte_letters() -> dict[str, int]:
    """The byte behind each letter in which byte-level tokenizers write theirs.

    Those that print stand for themselves, the others follow from 256 on (GPT-2's encoder.py).
    """
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + i): byte for i, byte in enumerate(rest)}
