"""Refuses what is given in place of a graph, scores or a circuit, with what to give instead."""

from __future__ import annotations

from sae_circuits.errors import require
from sae_circuits.graph.circuit import Circuit
from sae_circuits.graph.scores import Scores
from sae_circuits.graph.span_circuit import SpanCircuit
from sae_circuits.graph.span_scores import SpanScores
from sae_circuits.graph.tensor_graph import TensorGraph


def require_graph(graph: object) -> None:
    """Refuse what is no graph.

    Raises:
        ArgumentError: with how one is made.
    """
    require("graph", graph, TensorGraph, "a TensorGraph, made by TensorGraph.from_model(model)")


def require_circuit(circuit: object, what: str = "circuit") -> None:
    """Refuse what is no circuit.

    Raises:
        ArgumentError: with how one is made.
    """
    made = "a Circuit, such as prune.top_n(scores, 200) makes of scores"
    require(what, circuit, (Circuit, SpanCircuit), made)


def require_scores(scores: object, what: str = "scores") -> None:
    """Refuse what is no scores.

    Raises:
        ArgumentError: with how they are made.
    """
    require(what, scores, (Scores, SpanScores), "Scores, made by attribute(model, graph, task)")
