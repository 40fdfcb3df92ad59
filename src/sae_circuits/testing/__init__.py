"""Checks for methods of one's own, and models whose circuits are known.

>>> from sae_circuits.testing import CHECKS, check_method, truth
>>> check_method("eap")                     # raises an AssertionError where a check fails
>>> CHECKS[1].__name__
'equals_exact_patching_on_a_linear_model'
>>> [edge.name for edge in truth("and").circuit.edges][:2]
['input->a0.h0<v>', 'input->a0.h1<v>']
"""

from sae_circuits.models.small import random_model
from sae_circuits.testing.conformance import CHECKS, Case, check_method, checks_for
from sae_circuits.testing.ground_truth import GroundTruth
from sae_circuits.testing.inputs import random_task
from sae_circuits.testing.registry import truth, truths
from sae_circuits.testing.tables import Table, table

__all__ = [
    "CHECKS",
    "Case",
    "GroundTruth",
    "Table",
    "check_method",
    "checks_for",
    "random_model",
    "random_task",
    "table",
    "truth",
    "truths",
]
