"""Subject-verb agreement past a noun that attracts. (Finlayson et al., arXiv 2106.06087)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.recipe import Pair, Recipe, build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import NOUNS, WordLists

TEMPLATES = (
    "The {nouns[0]} near the {nouns[1]}",
    "We think that the {nouns[0]} behind the {nouns[1]}",
    "We think that the {nouns[0]} near the {nouns[1]}",
    "They say that the {nouns[0]} beside the {nouns[1]}",
    "I know that the {nouns[0]} in front of the {nouns[1]}",
    "I know that the {nouns[0]} beside the {nouns[1]}",
    "The {nouns[0]} next to the {nouns[1]}",
    "The {nouns[0]} behind the {nouns[1]}",
    "They say that the {nouns[0]} next to the {nouns[1]}",
)
VERBS = ((" is", " was", " has"), (" are", " were", " have"))


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw a subject and another noun, each singular or plural; corrupt: the subject's number."""
    subject, attractor = (entry.split() for entry in rng.sample(words["nouns"], 2))
    number, other = rng.randrange(2), rng.choice(attractor)
    return Pair(
        clean=template.format(nouns=[subject[number], other]),
        corrupt=template.format(nouns=[subject[1 - number], other]),
        answer=VERBS[number],
        wrong=VERBS[1 - number],
    )


RECIPE = Recipe(
    name="subject_verb",
    templates=TEMPLATES,
    words={"nouns": NOUNS},
    write=write,
    least={"nouns": 2},
)


def subject_verb(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Subject-verb agreement: the verb agrees with the subject, not with the nearer noun.

    Clean: "The keys near the cabinet" -> " are", " were" or " have", not " is", " was" or " has".
    Corrupt: "The key near the cabinet", whose logit difference is reversed. The nearer noun
    is singular in one half of the examples and plural in the other.

    Args: see `sae_circuits.tasks.recipe.build`.

    Reference: Finlayson et al., arXiv 2106.06087.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
