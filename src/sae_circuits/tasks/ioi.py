"""Indirect object identification: who is given the drink? (Wang et al., arXiv 2211.00593)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.recipes import Pair, Recipe, build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import NAMES, OBJECTS, PLACES, WordLists

FRAMES = (
    "Then, {{names[0]}} and {{names[1]}} {scene}. {{names[2]}} {gift} to",
    "When {{names[0]}} and {{names[1]}} {scene}, {{names[2]}} {gift} to",
    "While {{names[0]}} and {{names[1]}} {scene}, {{names[2]}} {gift} to",
    "Afterwards, {{names[0]}} and {{names[1]}} {scene}, and {{names[2]}} {gift} to",
)
GIFTS = ("gave a {objects}", "passed a {objects}")
SCENES = (
    "went to the {places}",
    "were working at the {places}",
    "had a lot of fun at the {places}",
    "had a long talk at the {places}",
)
TEMPLATES = tuple(
    frame.format(scene=scene, gift=gift) for frame in FRAMES for gift in GIFTS for scene in SCENES
)


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw two names in either order, the second giver among them, and three others to corrupt."""
    recipient, giver, *others = rng.sample(words["names"], 5)
    first = rng.sample([recipient, giver], 2)
    rest = {name: rng.choice(words[name]) for name in ("places", "objects")}
    return Pair(
        clean=template.format(names=[*first, giver], **rest),
        corrupt=template.format(names=others, **rest),
        answer=(f" {recipient}",),
        wrong=(f" {giver}",),
    )


RECIPE = Recipe(
    name="ioi",
    templates=TEMPLATES,
    words={"names": NAMES, "places": PLACES, "objects": OBJECTS},
    write=write,
    least={"names": 5},
)


def ioi(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Indirect object identification: the name that is given something is the one not repeated.

    Clean: "When Mary and John went to the store, John gave a drink to" -> " Mary", not " John".
    Corrupt: the same sentence with three other names, no two alike, so that nothing favours
    either answer and the logit difference is about zero.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Wang et al., arXiv 2211.00593 (the ABC corruption).
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
