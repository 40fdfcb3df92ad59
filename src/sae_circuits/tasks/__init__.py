"""Tasks: clean and corrupt prompts with answers, bundled or of one's own."""

from sae_circuits.tasks.docstring import docstring
from sae_circuits.tasks.facts import facts
from sae_circuits.tasks.greater_than import greater_than
from sae_circuits.tasks.induction import induction
from sae_circuits.tasks.ioi import ioi
from sae_circuits.tasks.registry import make, names, recipe
from sae_circuits.tasks.subject_verb import subject_verb
from sae_circuits.tasks.task import Task

__all__ = [
    "Task",
    "docstring",
    "facts",
    "greater_than",
    "induction",
    "ioi",
    "make",
    "names",
    "recipe",
    "subject_verb",
]
