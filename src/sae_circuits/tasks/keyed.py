"""Facts as "key: value": another key of as many tokens corrupts. (Zhang and Nanda, 2309.16042)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sae_circuits.tasks.recipes import Recipe
from sae_circuits.tasks.strings import Pair
from sae_circuits.tasks.vocabulary import Vocabulary
from sae_circuits.tasks.words import WordLists


def split(entry: str) -> tuple[str, str]:
    """Take an entry apart; a key may be several words.

    >>> split("Buenos Aires: Argentina")
    ('Buenos Aires', 'Argentina')
    """
    key, _, value = entry.rpartition(": ")
    return key, value


def entries(values: dict[str, str]) -> tuple[str, ...]:
    """Write facts that are listed by value.

    >>> entries({"fruits": "apples, pears", "birds": "owls"})
    ('apples: fruits', 'pears: fruits', 'owls: birds')
    """
    return tuple(
        f"{key.strip()}: {value}" for value, keys in values.items() for key in keys.split(",")
    )


def value_is_token(vocabulary: Vocabulary, entry: str) -> bool:
    """Tell whether a fact's value is one token after a space, and its key is known."""
    key, value = split(entry)
    return vocabulary.is_token(value) and vocabulary.knows(key)


def keyed(name: str, templates: Sequence[str], facts: Sequence[str]) -> Recipe:
    """Make the recipe of a task in which a fact's value follows its key.

    The corrupt prompt has another fact's key, so its value is right there and wrong here, and the
    logit difference is reversed. Keys of another token length are drawn anew (see `build`).

    Args:
        name: the task's name.
        templates: prompts with the slot `{keys}`.
        facts: entries "key: value".
    """

    def write(rng: random.Random, template: str, words: WordLists) -> Pair:
        (key, right), (other, wrong) = map(split, rng.sample(words["keys"], 2))
        return Pair(
            clean=template.format(keys=key),
            corrupt=template.format(keys=other),
            answer=(f" {right}",),
            wrong=(f" {wrong}",),
        )

    return Recipe(
        name=name,
        templates=tuple(templates),
        words={"keys": tuple(facts)},
        write=write,
        least={"keys": 2},
        keep={"keys": value_is_token},
    )
