"""What matters: a score for every edge, or every writer, of a model's graph."""

from sae_circuits.attribution.active import active_features
from sae_circuits.attribution.by_span import attribute_spans
from sae_circuits.attribution.combining import combine
from sae_circuits.attribution.method import Method, along_embedding, path_points
from sae_circuits.attribution.nodes import attribute_nodes
from sae_circuits.attribution.pairs import attribute_pairs
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.run import attribute, methods

__all__ = [
    "Method",
    "Problem",
    "active_features",
    "along_embedding",
    "attribute",
    "attribute_nodes",
    "attribute_pairs",
    "attribute_spans",
    "combine",
    "methods",
    "path_points",
]
