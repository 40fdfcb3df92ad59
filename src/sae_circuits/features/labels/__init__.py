"""Labels of features: strategies that propose them, one file each, and the test of each label."""

from sae_circuits.features.labels.label import Label, labels_table
from sae_circuits.features.labels.parts import Ground, Part
from sae_circuits.features.labels.predicates import EndsIn, Matches, TokenIn
from sae_circuits.features.labels.regexes import PATTERNS, Pattern
from sae_circuits.features.labels.run import DEFAULT, label, strategies
from sae_circuits.features.labels.strategy import LeftOut, Proposal, Setting, Strategy, Untested

__all__ = [
    "DEFAULT",
    "PATTERNS",
    "EndsIn",
    "Ground",
    "Label",
    "LeftOut",
    "Matches",
    "Part",
    "Pattern",
    "Proposal",
    "Setting",
    "Strategy",
    "TokenIn",
    "Untested",
    "label",
    "labels_table",
    "strategies",
]
