"""The bundled tasks by name."""

from __future__ import annotations

from typing import Any

from sae_circuits.errors import unknown
from sae_circuits.tasks.docstring import RECIPE as DOCSTRING
from sae_circuits.tasks.facts import RECIPE as FACTS
from sae_circuits.tasks.greater_than import RECIPE as GREATER_THAN
from sae_circuits.tasks.induction import RECIPE as INDUCTION
from sae_circuits.tasks.ioi import RECIPE as IOI
from sae_circuits.tasks.recipes import Recipe, build
from sae_circuits.tasks.subject_verb import RECIPE as SUBJECT_VERB
from sae_circuits.tasks.task import Task

_RECIPES = {
    recipe.name: recipe for recipe in (IOI, GREATER_THAN, SUBJECT_VERB, INDUCTION, DOCSTRING, FACTS)
}


def names() -> tuple[str, ...]:
    """Return the names of the bundled tasks.

    >>> names()
    ('ioi', 'greater_than', 'subject_verb', 'induction', 'docstring', 'facts')
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
