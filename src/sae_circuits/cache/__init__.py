"""Clean and corrupt activations and gradients, in narrow form."""

from sae_circuits.cache.run import Reads, Run, Writes, run

__all__ = ["Reads", "Run", "Writes", "run"]
