"""Coloured objects: what colour has the one that is asked for? (Merullo et al., 2310.08744)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.recipes import Recipe, build
from sae_circuits.tasks.strings import Pair
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import HUES, OBJECTS, WordLists

FIRST, SECOND, THIRD = (f"a {{hues[{i}]}} {{objects[{i}]}}" for i in range(3))
THINGS = f"{FIRST}, {SECOND} and {THIRD}"
OPENINGS = ("I see", "On the table, I see", "On the table, there is", "In the box, there is")
QUESTIONS = ("The color of the {asked} is", "What color is the {asked}? Answer:")
TEMPLATES = tuple(
    f"{opening} {THINGS}. {question}" for opening in OPENINGS for question in QUESTIONS
)


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw three things of three colours, and which is asked for; corrupt: ask for another."""
    things, hues = rng.sample(words["objects"], 3), rng.sample(words["hues"], 3)
    asked, other = rng.sample(range(3), 2)
    return Pair(
        clean=template.format(objects=things, hues=hues, asked=things[asked]),
        corrupt=template.format(objects=things, hues=hues, asked=things[other]),
        answer=(f" {hues[asked]}",),
        wrong=(f" {hues[other]}",),
    )


RECIPE = Recipe(
    name="colored_objects",
    templates=TEMPLATES,
    words={"objects": OBJECTS, "hues": HUES},
    write=write,
    least={"objects": 3, "hues": 3},
)


def colored_objects(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Coloured objects: the colour of one of three things.

    Clean: "I see a red pen, a blue cup and a green hat. The color of the cup is" -> " blue", not
    " red". Corrupt: the same with another of the things asked for, "The color of the pen is", whose
    logit difference is reversed.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Merullo et al., arXiv 2310.08744.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
