"""Which method to trust: methods against tasks, in one table."""

from sae_circuits.benchmarking.run import benchmark

__all__ = ["benchmark"]
