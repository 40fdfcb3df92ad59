"""Clean and corrupt activations and gradients, in narrow form."""

from sae_circuits.cache.check import check_model
from sae_circuits.cache.finite import require_finite
from sae_circuits.cache.reads import Reads
from sae_circuits.cache.run import Run, Writes, run

__all__ = ["Reads", "Run", "Writes", "check_model", "require_finite", "run"]
