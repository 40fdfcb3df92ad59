"""Docstrings: which argument is described next? (Heimersheim and Janiak, 2023)."""

from __future__ import annotations

import random
from typing import Any

from sae_circuits.tasks.recipes import Pair, Recipe, build
from sae_circuits.tasks.task import Task
from sae_circuits.tasks.words import ARGUMENTS, FUNCTIONS, NOUNS, WordLists


def _template(sign: str, arguments: int, described: int) -> str:
    """Write a function of some arguments, the first of them described, up to the next name."""
    signature = ", ".join(f"{{arguments[{i}]}}" for i in range(arguments))
    fields = "".join(
        f"    {sign}param {{described[{i}]}}: {{nouns[{2 * i}]}} {{nouns[{2 * i + 1}]}}\n"
        for i in range(described)
    )
    return f'def {{functions}}(self, {signature}):\n    """\n{fields}    {sign}param'


TEMPLATES = (
    _template(":", arguments=4, described=2),
    _template(":", arguments=4, described=1),
    _template(":", arguments=3, described=1),
    _template("@", arguments=3, described=1),
    _template("@", arguments=4, described=1),
    _template("@", arguments=4, described=2),
)


def write(rng: random.Random, template: str, words: WordLists) -> Pair:
    """Draw arguments and descriptions; corrupt: other names in the signature."""
    arguments, described = template.count("{arguments"), template.count("{described")
    drawn = rng.sample(words["arguments"], 2 * arguments)
    names, others = drawn[:arguments], drawn[arguments:]
    rest = {
        "functions": rng.choice(words["functions"]),
        "nouns": rng.sample(words["nouns"], 2 * described),
        "described": names,
    }
    return Pair(
        clean=template.format(arguments=names, **rest),
        corrupt=template.format(arguments=others, **rest),
        answer=(f" {names[described]}",),
        wrong=tuple(f" {name}" for i, name in enumerate(names) if i != described),
    )


RECIPE = Recipe(
    name="docstring",
    templates=TEMPLATES,
    words={
        "arguments": ARGUMENTS,
        "functions": FUNCTIONS,
        "nouns": tuple(noun.split()[0] for noun in NOUNS),
    },
    write=write,
    least={"arguments": 8, "nouns": 4},
)


def docstring(model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Docstrings: the arguments are described in the order of the signature.

    Clean: `def port(self, load, size, last):`, a description of `load`, and `:param` -> " size",
    not " load" or " last". Corrupt: other names in the signature, the same in the descriptions,
    so that the answer has not been seen, and the logit difference is zero or below.

    Args: see `sae_circuits.tasks.recipes.build`.

    Reference: Heimersheim and Janiak, "A circuit for Python docstrings in a 4-layer attention-only
    transformer", 2023.
    """
    return build(RECIPE, model, n, seed, prepend_bos=prepend_bos)
