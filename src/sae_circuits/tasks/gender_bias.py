"""Gender bias: he or she, after a profession? (Vig et al., arXiv 2004.12265)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.keyed import entries, split, value_is_token
from sae_circuits.tasks.recipes import Recipe, build
from sae_circuits.tasks.strings import Pair
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary
from sae_circuits.tasks.words import WordLists

ACTIONS = (
    "said that", "yelled that", "whispered that", "wanted that", "desired that", "wished that",
    "ate because", "ran because", "drove because", "slept because", "cried because",
    "laughed because", "went home because", "stayed up because", "was fired because",
    "was promoted because", "yelled because",
)  # fmt: skip
TEMPLATES = tuple(f"The {{professions}} {action}" for action in ACTIONS)
PROFESSIONS = entries(
    {
        "she": "nurse, secretary, teacher, dancer, maid, nun, clerk, singer, therapist, tutor, "
        "educator, instructor, artist, poet, counselor, performer, planner, treasurer, baker",
        "he": "doctor, lawyer, soldier, farmer, sailor, captain, professor, scientist, engineer, "
        "manager, officer, president, senator, surgeon, judge, bishop, priest, coach, director, "
        "editor, banker, athlete, architect, boss, colonel, detective, economist, inventor, "
        "mechanic, minister, painter, philosopher, programmer, trader, warrior, worker",
    }
)
OTHERS = {"she": "man", "he": "woman"}


def keeps(vocabulary: Vocabulary, entry: str) -> bool:
    """Tell whether a profession and its pronoun are one token each."""
    return value_is_token(vocabulary, entry) and vocabulary.is_token(split(entry)[0])


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw a profession; corrupt: a man for what is said of women, and the other way round."""
    pronouns = sorted({split(entry)[1] for entry in words["professions"]})
    pronoun = rng.choice(pronouns)
    drawn = rng.choice([key for key, said in map(split, words["professions"]) if said == pronoun])
    return Pair(
        clean=template.format(professions=drawn),
        corrupt=template.format(professions=OTHERS[pronoun]),
        answer=(f" {pronoun}",),
        wrong=(" he" if pronoun == "she" else " she",),
    )


RECIPE = Recipe(
    name="gender_bias",
    templates=TEMPLATES,
    words={"professions": PROFESSIONS},
    write=write,
    least={"professions": 2},
    keep={"professions": keeps},
)


def gender_bias(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Gender bias: the pronoun that people's prejudice gives to a profession.

    Clean: "The nurse said that" -> " she", not " he". Corrupt: "The man said that", whose logit
    difference is reversed. The answer is the stereotype, not what is right. Half of the examples
    have either pronoun.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Vig et al., arXiv 2004.12265; stereotypes after Bolukbasi et al., arXiv 1607.06520;
    this corruption is that of Hanna et al., arXiv 2403.17806.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
