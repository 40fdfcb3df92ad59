"""Scores to circuits, as pure functions: which edges to keep."""

from typing import Any

from sae_circuits.errors import no_attribute
from sae_circuits.prune.baselines import random_circuit
from sae_circuits.prune.by_score import cumulative_influence, threshold, top_n, top_nodes
from sae_circuits.prune.growth import best_first
from sae_circuits.prune.integer import select
from sae_circuits.prune.paths import drop_dead_nodes, path_mask

__all__ = [
    "best_first",
    "cumulative_influence",
    "drop_dead_nodes",
    "path_mask",
    "random_circuit",
    "select",
    "threshold",
    "top_n",
    "top_nodes",
]


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)
