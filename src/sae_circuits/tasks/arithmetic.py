"""Two-digit addition and subtraction. (Nikankin et al., 2410.21272; Mueller et al., 2504.13151)."""

from __future__ import annotations

import random
from collections.abc import Callable
from operator import add, sub
from typing import Any

from sae_circuits.tasks.recipes import Recipe, build
from sae_circuits.tasks.strings import Pair
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.vocabulary import Vocabulary
from sae_circuits.tasks.words import WordLists

NUMBERS = tuple(str(number) for number in range(10, 100))
FIRST, SECOND = "{numbers[0]}", "{numbers[1]}"


def _templates(sign: str, word: str, noun: str) -> tuple[str, ...]:
    return (
        f"{FIRST}{sign}{SECOND}=",
        f"{FIRST} {sign} {SECOND} =",
        f"{FIRST} {word} {SECOND} is",
        f"The {noun} {FIRST} and {SECOND} is",
        f"Q: How much is {FIRST} {word} {SECOND}? A:",
    )


def keeps(vocabulary: Vocabulary, number: str) -> bool:
    """Tell whether a number can be an answer: one token, after a sign or after a space."""
    return vocabulary.following("-", number) is not None or vocabulary.is_token(number)


def _recipe(name: str, templates: tuple[str, ...], operator: Callable[[int, int], int]) -> Recipe:
    def write(rng: random.Random, template: str, words: WordLists) -> Pair:
        glue = "" if template.endswith("}=") else " "

        def draw() -> tuple[str, str]:
            numbers = rng.choices(words["numbers"], k=2)
            if operator is sub:
                numbers.sort(key=int, reverse=True)
            return template.format(numbers=numbers), f"{glue}{operator(*map(int, numbers))}"

        (clean, right), (corrupt, wrong) = draw(), draw()
        return Pair(clean=clean, corrupt=corrupt, answer=(right,), wrong=(wrong,))

    return Recipe(
        name=name,
        templates=templates,
        words={"numbers": NUMBERS},
        write=write,
        least={"numbers": 8},
        keep={"numbers": keeps},
    )


ADDITION = _recipe("addition", _templates("+", "plus", "sum of"), add)
SUBTRACTION = _recipe("subtraction", _templates("-", "minus", "difference between"), sub)


def addition(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Addition of two numbers of two digits.

    Clean: "13+25=" -> "38", or in words. Corrupt: two other numbers with another sum, which is the
    wrong answer, so that the logit difference is reversed. Needs a tokenizer that writes numbers
    of two digits as one token, as GPT-2's and Llama 3's do; where it has no token for those of
    three, sums stay below 100.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Nikankin et al., arXiv 2410.21272; Mueller et al., arXiv 2504.13151.
    """
    return build(ADDITION, model, n, seed, prepend_bos=prepend_bos)


def subtraction(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Subtraction of a number of two digits from one that is not smaller.

    Clean: "38-25=" -> "13", or in words. Corrupt: two other numbers with another difference, which
    is the wrong answer. Needs a tokenizer as `addition` does.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Nikankin et al., arXiv 2410.21272; Mueller et al., arXiv 2504.13151.
    """
    return build(SUBTRACTION, model, n, seed, prepend_bos=prepend_bos)
