"""Scores beside a known circuit, and scores beside other scores."""

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
        >>> truth = Circuit.from_edges(graph, ["input->a0.h0<k>", "input->a0.h0<v>"])
        >>> against(scores, truth)
        Recovery(auroc=0.5416..., auprc=0.625, precision=0.5, k=2, n_true=2, n_missed=0)

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
