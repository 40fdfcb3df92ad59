"""What a tokenizer makes of a text, of a word, and of a word that follows a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sae_circuits.errors import TaskError


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A Hugging Face tokenizer, seen as the tokens it gives to words.

    Works for word-level, byte-level (GPT-2's) and sentence-piece tokenizers (Llama's) alike,
    since a word's token is read off the difference that the word makes to a text.
    """

    tokenizer: Any
    _following: dict[tuple[str, str], int | None] = field(default_factory=dict, repr=False)
    _learnt: dict[str, list[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, model: Any) -> Vocabulary:
        """Take a model's tokenizer, or a tokenizer itself.

        Raises:
            TaskError: there is no tokenizer.
        """
        if isinstance(model, str):
            raise TaskError(f"{model!r} is a name, no model: give load_model({model!r})")
        tokenizer = getattr(model, "tokenizer", model)
        if tokenizer is None or not callable(getattr(tokenizer, "encode", None)):
            raise TaskError(
                f"{type(model).__name__} has no tokenizer: pass a model with one, or give token "
                "ids to Task.from_tokens"
            )
        return cls(tokenizer)

    @property
    def bos(self) -> int | None:
        """The beginning-of-sequence token's id, if there is one."""
        return self.tokenizer.bos_token_id

    @property
    def size(self) -> int:
        """How many token ids there are."""
        return len(self.tokenizer)

    @property
    def ordinary(self) -> list[int]:
        """The ids of all tokens but special ones."""
        special = set(self.tokenizer.all_special_ids)
        return [token for token in range(self.size) if token not in special]

    def word(self, token: int) -> str:
        """Return a token as a word, without the space before it."""
        return self.tokenizer.decode([token]).strip()

    @property
    def unknown(self) -> int | None:
        """The id that stands for unknown words, if that is all it stands for.

        GPT-2's is its beginning-of-sequence token too, and no text is unknown to it.
        """
        tokenizer = self.tokenizer
        shared = tokenizer.unk_token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id)
        return None if shared else tokenizer.unk_token_id

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with no special tokens added."""
        if text in self._learnt:
            return list(self._learnt[text])
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def learn(self, texts: Iterable[str]) -> None:
        """Encode many texts at once, which is much faster than one by one, and keep their ids."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._learnt]
        if fresh:
            ids = self.tokenizer(fresh, add_special_tokens=False)["input_ids"]
            self._learnt.update(zip(fresh, ids, strict=True))

    def prompt(self, text: str, *, prepend_bos: bool = True) -> list[int]:
        """Return the ids of a prompt, after the beginning-of-sequence token if there is one.

        Raises:
            TaskError: the prompt is empty, or has words that the tokenizer does not know.
        """
        ids = self.encode(text)
        if not ids:
            raise TaskError(f"the prompt {text!r} has no token")
        if self.unknown in ids:
            words = [word for word in text.split() if not self.knows(word)]
            raise TaskError(
                f"the prompt {text!r} has words that the tokenizer does not know: {words}"
            )
        return [self.bos, *ids] if prepend_bos and self.bos is not None else ids

    def knows(self, text: str) -> bool:
        """Tell whether no token of a text is the unknown one."""
        return self.unknown not in self.encode(text)

    def following(self, text: str, word: str) -> int | None:
        """Return the one token that a word adds to a text's, or None if it adds another number.

        It hangs on the text's last word, with the space before it, and on nothing further back.
        """
        last = " ".join(text.rsplit(" ", 2)[-2:])
        if (last, word) not in self._following:
            self._following[last, word] = self._added(last, word)
        return self._following[last, word]

    def _added(self, text: str, word: str) -> int | None:
        before, after = self.encode(text), self.encode(text + word)
        is_one = len(after) == len(before) + 1 and after[:-1] == before
        return after[-1] if is_one and self._says(after[-1], word) else None

    def _says(self, token: int, word: str) -> bool:
        """Tell whether a token is all of a word: some tokenizers drop the digits they cannot write.

        With those that know two digits only, "123" is "12".
        """
        if token == self.unknown:
            return False
        number = word.strip()
        return not number.isdigit() or self.word(token) == number

    def is_token(self, word: str) -> bool:
        """Tell whether a word after a space is one token."""
        return self.following("the", f" {word}") is not None
