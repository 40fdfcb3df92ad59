"""Tasks: clean and corrupt prompts with answers, bundled or of one's own."""

from typing import Any

from sae_circuits.errors import no_attribute
from sae_circuits.tasks import corrupt
from sae_circuits.tasks.arithmetic import addition, subtraction
from sae_circuits.tasks.colored_objects import colored_objects
from sae_circuits.tasks.country_capital import country_capital
from sae_circuits.tasks.docstring import docstring
from sae_circuits.tasks.facts import facts
from sae_circuits.tasks.folders import read_folder
from sae_circuits.tasks.gender_bias import gender_bias
from sae_circuits.tasks.greater_than import greater_than
from sae_circuits.tasks.hypernymy import hypernymy
from sae_circuits.tasks.induction import induction
from sae_circuits.tasks.ioi import ioi
from sae_circuits.tasks.multiple_choice import multiple_choice
from sae_circuits.tasks.pairs import pairs
from sae_circuits.tasks.registry import DEMO, make, names, recipe
from sae_circuits.tasks.sports import sports
from sae_circuits.tasks.subject_verb import subject_verb
from sae_circuits.tasks.task import Task

__all__ = [
    "DEMO",
    "Task",
    "addition",
    "colored_objects",
    "corrupt",
    "country_capital",
    "docstring",
    "facts",
    "gender_bias",
    "greater_than",
    "hypernymy",
    "induction",
    "ioi",
    "make",
    "multiple_choice",
    "names",
    "pairs",
    "read_folder",
    "recipe",
    "sports",
    "subject_verb",
    "subtraction",
]


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)
