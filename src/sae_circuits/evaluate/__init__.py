"""How good a circuit is: what it recovers, what its complement recovers, and at which sizes."""

from sae_circuits.evaluate.measures import FRACTIONS, bootstrap, cmd, cpr, recovered
from sae_circuits.evaluate.report import Curve, Report
from sae_circuits.evaluate.run import curve, evaluate

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
