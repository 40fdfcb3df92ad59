"""Simple facts: capitals, languages, opposites, colours. (Meng et al., arXiv 2202.05262)."""

from __future__ import annotations

import random
import string
from typing import Any

from sae_circuits.tasks.recipes import Pair, Recipe, build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import CAPITALS, COLOURS, LANGUAGES, OPPOSITES, WordLists

OPENINGS = ("The", "I know that the", "We know that the", "They say that the")
PHRASES = (
    "capital of {capitals} is",
    "capital city of {capitals} is",
    "people of {languages} speak",
    "language of {languages} is",
    "opposite of {opposites} is",
    "opposite of the word {opposites} is",
    "colour of the {colours} is",
    "{colours} has the colour",
)
TEMPLATES = tuple(f"{opening} {phrase}" for opening in OPENINGS for phrase in PHRASES)


def relation(template: str) -> str:
    """Return the one list that a template draws from."""
    return next(slot for _, slot, _, _ in string.Formatter().parse(template) if slot)


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw two facts of one relation; corrupt: the other subject, whose object is wrong."""
    name = relation(template)
    (subject, right), (other, wrong) = (entry.split() for entry in rng.sample(words[name], 2))
    return Pair(
        clean=template.format(**{name: subject}),
        corrupt=template.format(**{name: other}),
        answer=(f" {right}",),
        wrong=(f" {wrong}",),
    )


RECIPE = Recipe(
    name="facts",
    templates=TEMPLATES,
    words={
        "capitals": CAPITALS,
        "languages": LANGUAGES,
        "opposites": OPPOSITES,
        "colours": COLOURS,
    },
    write=write,
    least={"capitals": 2, "languages": 2, "opposites": 2, "colours": 2},
)


def facts(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Simple facts: the object of a subject and a relation.

    Clean: "The capital of France is" -> " Paris", not " Rome". Corrupt: another subject of the
    same relation, "The capital of Italy is", whose logit difference is reversed.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Meng et al., arXiv 2202.05262.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
