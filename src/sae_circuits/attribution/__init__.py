"""What matters: a score for every edge of a model's graph."""

from sae_circuits.attribution.method import Method, along_embedding, path_points
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.run import attribute, methods

__all__ = ["Method", "Problem", "along_embedding", "attribute", "methods", "path_points"]
