"""Multiple choice: copy the letter of the right option. (Wiegreffe et al., arXiv 2407.15018)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.recipes import Recipe, build
from sae_circuits.tasks.strings import Pair
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import HUES, OBJECTS, WordLists

LETTERS = ("A", "B", "C", "D")
OPTIONS = "\n".join(f"{{letters[{i}]}}. {{hues[{i}]}}" for i in range(len(LETTERS)))
QUESTIONS = (
    "Question: The {objects} is {right}. What color is the {objects}?",
    "Question: A {objects} is {right}. What color is the {objects}?",
    "Question: There is a {right} {objects}. What color is the {objects}?",
)
TEMPLATES = tuple(f"{question}\n{OPTIONS}\nAnswer:" for question in QUESTIONS)


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw a thing, its colour and the options; corrupt: the colour stands at another letter."""
    hues = rng.sample(words["hues"], len(LETTERS))
    place, other = rng.sample(range(len(LETTERS)), 2)
    moved = list(hues)
    moved[place], moved[other] = hues[other], hues[place]
    rest = {
        "letters": words["letters"],
        "objects": rng.choice(words["objects"]),
        "right": hues[place],
    }
    return Pair(
        clean=template.format(hues=hues, **rest),
        corrupt=template.format(hues=moved, **rest),
        answer=(f" {LETTERS[place]}",),
        wrong=(f" {LETTERS[other]}",),
    )


RECIPE = Recipe(
    name="multiple_choice",
    templates=TEMPLATES,
    words={"objects": OBJECTS, "hues": HUES, "letters": LETTERS},
    write=write,
    least={"hues": len(LETTERS), "letters": len(LETTERS)},
)


def multiple_choice(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Multiple choice: the letter of the option that repeats what the question says.

    Clean: "Question: The cup is red. What color is the cup?", the options "A. blue", "B. red",
    "C. pink", "D. white" line by line, and "Answer:" -> " B", not " C". Corrupt: the options of the
    right and of the wrong letter are exchanged, and so the logit difference is reversed.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Wiegreffe et al., arXiv 2407.15018; Mueller et al., arXiv 2504.13151 (MCQA).
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
