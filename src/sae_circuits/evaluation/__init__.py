"""How good a circuit is: what it recovers, what its complement recovers, and at which sizes."""

from sae_circuits.evaluation.measures import FRACTIONS, bootstrap, cmd, cpr, recovered
from sae_circuits.evaluation.report import Curve, Report
from sae_circuits.evaluation.run import curve, evaluate

__all__ = [
    "FRACTIONS",
    "Curve",
    "Report",
    "bootstrap",
    "cmd",
    "cpr",
    "curve",
    "evaluate",
    "recovered",
]
