"""Scores against a known circuit, scores against scores, and circuits against circuits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from sae_circuits.errors import GraphError, OptionError
from sae_circuits.evaluation.curves import Curve
from sae_circuits.evaluation.measures import NOISE
from sae_circuits.evaluation.ranking import (
    NAN,
    auroc,
    average_precision,
    pearson,
    precision_at,
    spearman,
)
from sae_circuits.evaluation.report import Report
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.prune.keys import sizes

LARGE = 0.02  # of the total effect: above it an edge counts as one that matters


@dataclass(frozen=True)
class Recovery:
    """How well scores rank the edges of a known circuit before all others.

    Args:
        auroc: how often an edge of the circuit outranks another one; 0.5 is chance.
        auprc: mean precision over the thresholds that let an edge of the circuit in; chance is the
            circuit's share of the edges.
        precision: the share of the circuit's edges among the first k.
        k: how many edges that is.
        n_true: how many edges the circuit has.
        n_missed: how many of them the scores' graph does not have: they rank below all others.
    """

    auroc: float
    auprc: float
    precision: float
    k: int
    n_true: int
    n_missed: int


def against(scores: Scores, circuit: Circuit, *, by: str = "abs", k: int | None = None) -> Recovery:
    """How well scores find the edges of a circuit that is known.

    Equal scores share their rank. The two may be of different graphs of a model: edges are then the
    same where their names are, and edges of the circuit that have no score count as missed.

    Args:
        by: how to rank: "abs", "help" or "hurt" (see `Scores.order`).
        k: of the precision at k; by default as many as the circuit has edges.

    Raises:
        GraphError: a circuit without edges, or of all edges that have a score.
        OptionError: k below 1 or above the number of scores.
        NumericalError: a score is not a number.

    Example:
        >>> import torch
        >>> from sae_circuits.graph import Architecture, TensorGraph
        >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
        >>> scores = Scores(graph, torch.tensor([0.1, -3.0, 0.0, 2.0, -0.5, 0.0, 1.0, 0.2]))
        >>> truth = Circuit.from_edges(graph, ["input->a0.h0<k>", "input->m0"])
        >>> against(scores, truth)
        Recovery(auroc=0.9166666666666666, auprc=0.8333333333333333, precision=0.5, k=2,
                 n_true=2, n_missed=0)

    Reference: Conmy et al. 2023, arXiv 2304.14997 (ROC curves against known circuits).
    """
    values, positive = sizes(scores, by), _known(scores.graph, circuit)
    n_true, k = len(circuit), len(circuit) if k is None else k
    n_missed = n_true - int(positive.sum())
    if not n_true or bool(positive.all()):
        what = "all edges that have a score" if n_true else "no edges"
        raise GraphError(f"{circuit!r} has {what}: there is nothing to tell apart")
    if not 1 <= k <= len(values):
        raise OptionError(f"precision at {k:,}: give k from 1 to the {len(values):,} scores")
    return Recovery(
        auroc=auroc(values, positive, n_missed=n_missed),
        auprc=average_precision(values, positive, n_missed=n_missed),
        precision=precision_at(values, positive, k),
        k=k,
        n_true=n_true,
        n_missed=n_missed,
    )


def _known(graph: TensorGraph, circuit: Circuit) -> Bool[Tensor, "edge"]:
    """Which edges of a graph are in a circuit, of the same graph or of another."""
    if graph.same_as(circuit.graph):
        return circuit.mask.cpu()
    mask = torch.zeros(graph.n_edges, dtype=torch.bool)
    mask[[graph.edge_id(edge) for edge in circuit.edges if edge in graph.edges]] = True
    return mask


@dataclass(frozen=True)
class Agreement:
    """How far scores agree with those of a reference, such as `exact`.

    Args:
        pearson, spearman: correlations over all edges, of scores and of their ranks.
        sign: the share of edges whose score has the reference's sign, of those whose reference is
            not 0 (to 1e-6 of the largest).
        auroc: how often an edge whose reference is above a share of the total effect has a larger
            score, by size, than one below; NaN where the total is not known, or all edges are on
            one side.
        n_large: how many edges are above; 0 where the total is not known.
    """

    pearson: float
    spearman: float
    sign: float
    auroc: float
    n_large: int


def agreement(
    scores: Scores,
    reference: Scores,
    *,
    total: float | Report | Curve | None = None,
    share: float = LARGE,
) -> Agreement:
    """How far scores agree with a reference, edge by edge.

    Args:
        scores: such as those of a method.
        reference: such as those of `exact`, of the same graph.
        total: the total effect, |m(corrupt) - m(clean)|, or a report or a curve that holds both.
        share: of the total effect, above which an edge counts as one that matters.

    Raises:
        GraphError: scores of different graphs.
        NumericalError: a score is not a number.
        OptionError: a total or a share that is not above 0.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task, graph = sc.tasks.ioi(model, n=8, seed=0), sc.TensorGraph.from_model(model)
        >>> one = sc.attribute(model, graph, task, method="eap")
        >>> other = sc.attribute(model, graph, task, method="eap-ig", steps=5)
        >>> found = sc.agreement(one, other)
        >>> 0.5 < found.pearson < 1, 0.5 < found.sign < 1
        (True, True)

    Reference: Kramar et al. 2024, arXiv 2403.00745 (estimates against real patching).
    """
    scores.graph.require_same(reference.graph, "the reference")
    x, y = (sizes(each, "hurt").detach().cpu().double() for each in (scores, reference))
    there = y.abs() > NOISE * y.abs().max()
    same = (x.sign() == y.sign())[there]
    large = y.abs() > share * _total(total, share) if total is not None else torch.zeros_like(there)
    return Agreement(
        pearson=pearson(x, y),
        spearman=spearman(x, y),
        sign=float(same.double().mean()) if len(same) else NAN,
        auroc=auroc(x.abs(), large),
        n_large=int(large.sum()),
    )


def _total(total: float | Report | Curve, share: float) -> float:
    value = total if isinstance(total, int | float) else abs(total.corrupt - total.clean)
    if not (value > 0 and share > 0):
        raise OptionError(
            f"a total effect of {value:.6g} and a share of {share:.6g}: give both above 0"
        )
    return float(value)


@dataclass(frozen=True)
class SetOverlap:
    """How far two sets of edges or nodes are the same, beside random sets of those sizes.

    Args:
        n_first, n_second: how many each has.
        n_shared: how many both have.
        n_all: how many there are to draw from.
    """

    n_first: int
    n_second: int
    n_shared: int
    n_all: int

    @property
    def jaccard(self) -> float:
        """The share of both in either; NaN where both are empty."""
        return _ratio(self.n_shared, self.n_first + self.n_second - self.n_shared)

    @property
    def precision(self) -> float:
        """The share of the first that is in the second."""
        return _ratio(self.n_shared, self.n_first)

    @property
    def recall(self) -> float:
        """The share of the second that is in the first."""
        return _ratio(self.n_shared, self.n_second)

    @property
    def expected_jaccard(self) -> float:
        """What random sets of those sizes have in the mean: a sum over how many they share."""
        from sae_circuits.evaluation.ranking import shared_by_chance

        either = self.n_first + self.n_second
        chances = shared_by_chance(self.n_first, self.n_second, self.n_all)
        return sum(chance * _ratio(n, either - n) for n, chance in chances.items())

    @property
    def expected_precision(self) -> float:
        """What a random first set has in the mean."""
        return _ratio(self.n_second, self.n_all)

    @property
    def expected_recall(self) -> float:
        """What a random second set has in the mean."""
        return _ratio(self.n_first, self.n_all)

    def __repr__(self) -> str:
        return (
            f"SetOverlap({self.n_shared:,} shared of {self.n_first:,} and {self.n_second:,}: "
            f"Jaccard {self.jaccard:.3f}, by chance {self.expected_jaccard:.3f})"
        )


@dataclass(frozen=True)
class Overlap:
    """How far two circuits are the same, by edges and by nodes (heads, MLPs, features)."""

    edges: SetOverlap
    nodes: SetOverlap


def overlap(first: Circuit, second: Circuit) -> Overlap:
    """How far two circuits of one graph are the same, beside random ones of those sizes.

    Chance draws as many edges, or as many nodes, evenly from those of the graph.

    Raises:
        GraphError: circuits of different graphs; `circuit.on(graph)` brings one to the other's.

    Example:
        >>> from sae_circuits.graph import Architecture, TensorGraph
        >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
        >>> first = Circuit.from_edges(graph, ["input->m0", "m0->logits"])
        >>> overlap(first, Circuit.from_edges(graph, ["input->m0"])).edges
        SetOverlap(1 shared of 2 and 1: Jaccard 0.500, by chance 0.125)
    """
    nodes = set(first.nodes), set(second.nodes)
    return Overlap(
        SetOverlap(len(first), len(second), len(first & second), first.graph.n_edges),
        SetOverlap(*map(len, nodes), len(nodes[0] & nodes[1]), len(first.graph.components)),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else NAN
