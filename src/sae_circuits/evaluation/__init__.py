"""How good a circuit is: what it recovers, at which sizes, which edges it needs, how surely."""

from sae_circuits.evaluation.benchmark import Benchmark, Cell
from sae_circuits.evaluation.compare import Agreement, Recovery, against, agreement
from sae_circuits.evaluation.curve_run import curve
from sae_circuits.evaluation.curves import Curve
from sae_circuits.evaluation.measures import FRACTIONS, bootstrap, cmd, cpr, recovered
from sae_circuits.evaluation.minimal import Minimality, minimality
from sae_circuits.evaluation.overlaps import Overlap, SetOverlap, overlap
from sae_circuits.evaluation.report import Report
from sae_circuits.evaluation.run import evaluate
from sae_circuits.evaluation.stable import Stability, stability

__all__ = [
    "FRACTIONS",
    "Agreement",
    "Benchmark",
    "Cell",
    "Curve",
    "Minimality",
    "Overlap",
    "Recovery",
    "Report",
    "SetOverlap",
    "Stability",
    "against",
    "agreement",
    "bootstrap",
    "cmd",
    "cpr",
    "curve",
    "evaluate",
    "minimality",
    "overlap",
    "recovered",
    "stability",
]
