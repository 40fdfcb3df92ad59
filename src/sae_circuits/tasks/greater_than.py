"""Greater-than: a war ends after it began. (Hanna et al., arXiv 2305.00586)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.recipes import Pair, Recipe, build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary
from sae_circuits.tasks.words import EVENTS, WordLists

OPENINGS = ("The", "I know that the", "They say that the")
SPANS = (
    "lasted from the year {years[0]} to the year {years[1]}",
    "lasted from {years[0]} to {years[1]}",
    "ran from {years[0]} to the year {years[1]}",
    "ran from the year {years[0]} to {years[1]}",
    "began in the year {years[0]} and ended in the year {years[1]}",
    "began in {years[0]} and ended in {years[1]}",
    "of {years[0]} ended in the year {years[1]}",
)
TEMPLATES = tuple(f"{opening} {{events}} {span}" for opening in OPENINGS for span in SPANS)
ENDINGS = tuple(f"{ending:02}" for ending in range(2, 100))
YEARS = tuple(f"{century}{ending}" for century in range(11, 19) for ending in ENDINGS[:-1])


def keeps(vocabulary: Vocabulary, year: str) -> bool:
    """Tell whether a year, and the year 01 of its century, are two tokens of two digits."""
    century, first = year[:2], f"{year[:2]}01"
    return vocabulary.is_token(century) and all(
        vocabulary.following(f"in {century}", whole[2:]) is not None for whole in (year, first)
    )


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw a year XXYY to begin with, ask for the year XX.. of the end; corrupt: begin in XX01."""
    year, event = rng.choice(words["years"]), rng.choice(words["events"])
    century, start = year[:2], year[2:]
    return Pair(
        clean=template.format(years=[year, century], events=event),
        corrupt=template.format(years=[f"{century}01", century], events=event),
        answer=tuple(ending for ending in ENDINGS if ending > start),
        wrong=tuple(ending for ending in ENDINGS if ending <= start),
    )


RECIPE = Recipe(
    name="greater_than",
    templates=TEMPLATES,
    words={"events": EVENTS, "years": YEARS},
    write=write,
    least={"years": 8},
    keep={"years": keeps},
)


def greater_than(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Greater-than: the last two digits of the year in which something ended.

    Clean: "The war lasted from the year 1732 to the year 17" -> any of "33" to "99", and none of
    "02" to "32". Corrupt: the war begins in 1701, which allows them all. Use `prob_diff`.
    Needs a tokenizer that writes years as two tokens of two digits, as GPT-2's does for most.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Hanna et al., arXiv 2305.00586.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
