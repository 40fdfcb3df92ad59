"""Subject-verb agreement past a noun that attracts. (Finlayson et al., arXiv 2106.06087)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.recipes import Pair, Recipe, build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import NOUNS, WordLists

OPENINGS = ("The", "I know the", "We think that the", "They say that the")
LINKS = ("near", "behind", "beside", "next to", "in front of")
TEMPLATES = tuple(
    f"{opening} {{nouns[0]}} {link} the {{nouns[1]}}" for opening in OPENINGS for link in LINKS
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

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Finlayson et al., arXiv 2106.06087.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
