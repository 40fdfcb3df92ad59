"""The bundled tasks by name."""

from __future__ import annotations

from typing import Any

from sae_circuits.errors import unknown
from sae_circuits.tasks.arithmetic import ADDITION, SUBTRACTION
from sae_circuits.tasks.colored_objects import RECIPE as COLORED_OBJECTS
from sae_circuits.tasks.country_capital import RECIPE as COUNTRY_CAPITAL
from sae_circuits.tasks.docstring import RECIPE as DOCSTRING
from sae_circuits.tasks.facts import RECIPE as FACTS
from sae_circuits.tasks.gender_bias import RECIPE as GENDER_BIAS
from sae_circuits.tasks.greater_than import RECIPE as GREATER_THAN
from sae_circuits.tasks.hypernymy import RECIPE as HYPERNYMY
from sae_circuits.tasks.induction import RECIPE as INDUCTION
from sae_circuits.tasks.ioi import RECIPE as IOI
from sae_circuits.tasks.multiple_choice import RECIPE as MULTIPLE_CHOICE
from sae_circuits.tasks.recipes import Recipe, build
from sae_circuits.tasks.sports import RECIPE as SPORTS
from sae_circuits.tasks.subject_verb import RECIPE as SUBJECT_VERB
from sae_circuits.tasks.task import Task

_TRAINED = (IOI, GREATER_THAN, SUBJECT_VERB, INDUCTION, DOCSTRING, FACTS)
_OTHERS = (
    GENDER_BIAS, HYPERNYMY, COUNTRY_CAPITAL, COLORED_OBJECTS, SPORTS, MULTIPLE_CHOICE, ADDITION,
    SUBTRACTION,
)  # fmt: skip
_RECIPES = {recipe.name: recipe for recipe in (*_TRAINED, *_OTHERS)}

DEMO = tuple(recipe.name for recipe in _TRAINED)
"""The tasks that the bundled model is trained on."""


def names() -> tuple[str, ...]:
    """Return the names of the bundled tasks, first those that the bundled model is trained on.

    >>> names()[:6] == DEMO
    True
    >>> names()[6:]
    ('gender_bias', 'hypernymy', 'country_capital', 'colored_objects', 'sports', 'multiple_choice',
     'addition', 'subtraction')
    """
    return tuple(_RECIPES)


def recipe(name: str) -> Recipe:
    """Return how the examples of a bundled task are written.

    Raises:
        UnknownName: no bundled task has this name; the message gives the nearest ones.
    """
    if name not in _RECIPES:
        raise unknown("task", name, _RECIPES)
    return _RECIPES[name]


def make(name: str, model: Any, n: int = 64, seed: int = 0, *, prepend_bos: bool = True) -> Task:
    """Make a bundled task by name, as the function of that name does.

    Raises:
        UnknownName: no bundled task has this name.
        TaskError: see `sae_circuits.tasks.recipes.build`.
    """
    return build(recipe(name), model, n, seed, prepend_bos=prepend_bos)
