"""Induction on random words: what followed last time follows again. (Olsson et al., 2209.11895)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.recipes import Pair, Recipe, build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import ARGUMENTS, NAMES, NOUNS, OBJECTS, PLACES, WordLists, forms

TEMPLATES = ("List: {words}",)
LENGTHS = range(8, 13)  # how many words there are before they repeat


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw a sequence that begins again and stops; corrupt: as many words, none of them twice."""
    length = rng.choice(LENGTHS)
    stop = rng.randrange(2, length)
    drawn = rng.sample(words["words"], 2 * length + stop)
    first, fresh = drawn[:length], drawn[length:]
    other = rng.choice([word for word in first if word not in first[stop - 1 : stop + 1]])
    return Pair(
        clean=template.format(words=" ".join(first + first[:stop])),
        corrupt=template.format(words=" ".join(fresh)),
        answer=(f" {first[stop]}",),
        wrong=(f" {other}",),
    )


RECIPE = Recipe(
    name="induction",
    templates=TEMPLATES,
    words={"words": forms(NOUNS + NAMES + PLACES + OBJECTS + ARGUMENTS)},
    write=write,
    least={"words": 3 * LENGTHS[-1]},
)


def induction(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Induction: in a random sequence that begins again, the word that followed last time.

    Clean: "List: cup tree Tom road cup tree" -> " Tom", not another word of the list.
    Corrupt: as many other words, none of them twice, so that nothing matches: queries, keys and
    values all change, and the logit difference is about zero.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Olsson et al., arXiv 2209.11895.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
