"""What is drawn of a circuit, a circuit by span, two circuits, or an attribution graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.evaluation import overlap
from sae_circuits.explorer.ranks import Ranks, rank
from sae_circuits.explorer.view import Overlap, Shared
from sae_circuits.graph import AttributionGraph, Circuit, Edge, Edges, Provenance, SpanCircuit
from sae_circuits.viz.describe import Look
from sae_circuits.viz.pictures import look_of, look_of_graph

if TYPE_CHECKING:
    from sae_circuits.evaluation import SetOverlap


@dataclass(frozen=True)
class Drawable:
    """Edges by rank, with all that is said of them."""

    edges: Sequence[Edge]
    scores: Sequence[float | None]
    size: int
    by: str | None
    own: bool
    n_edges: int
    look: Look
    title: str
    line: str
    provenance: Provenance
    columns: tuple[str, ...] = ()
    measure: str = "score"
    sides: tuple[str, ...] = ()
    others: tuple[float | None, ...] = ()
    overlap: Overlap | None = None
    single: bool = True


def of_circuit(circuit: Circuit, most: int, by: str | None = None) -> Drawable:
    """A circuit, and of its scores the edges that would come next."""
    scores = None if circuit.scores is None else circuit.scores.values.cpu()
    ranks = rank(circuit.mask.cpu(), scores, most, by)
    edges = list(Edges(circuit.graph, ranks.ids))
    values = [None] * len(edges) if scores is None else scores[ranks.ids].tolist()
    made = circuit.scores.provenance if circuit.scores else Provenance()
    return Drawable(
        edges, values, ranks.size, ranks.by, ranks.own, circuit.graph.n_edges,
        look_of(circuit.graph), _title(circuit.graph.architecture.model, made),
        _line(len(circuit), circuit.graph.n_edges, ranks, "edges"), made,
        single=_is_single(scores),
    )  # fmt: skip


def of_span_circuit(circuit: SpanCircuit, most: int, by: str | None = None) -> Drawable:
    """A circuit by span: a node for each span at which an edge joins it."""
    names, n = list(circuit.parts), circuit.graph.n_edges
    scores = None
    if circuit.scores is not None:
        scores = circuit.scores.stacked.cpu().flatten()
    ranks = rank(circuit.mask.flatten().cpu(), scores, most, by)
    plain = Edges(circuit.graph, ranks.ids % n)
    edges = [_at(edge, i) for edge, i in zip(plain, (ranks.ids // n).tolist(), strict=True)]
    values = [None] * len(edges) if scores is None else scores[ranks.ids].tolist()
    made = circuit.scores.provenance if circuit.scores else Provenance()
    nodes = {end.component for edge in edges for end in (edge.src, edge.dest)}
    look = replace(
        look_of(circuit.graph),
        columns=tuple(enumerate(names)),
        short={node: replace(node, pos=None).name for node in nodes},
    )
    return Drawable(
        edges, values, ranks.size, ranks.by, ranks.own, n * len(names), look,
        _title(circuit.graph.architecture.model, made),
        _line(len(circuit), n * len(names), ranks, "edges at spans"), made, tuple(names),
        single=_is_single(scores),
    )  # fmt: skip


def of_two(a: Circuit, b: Circuit, names: tuple[str, str], most: int | None) -> Drawable:
    """Two circuits of one graph: the edges of either, by the size of the first one's scores.

    Raises:
        GraphError: circuits of different graphs.
    """
    try:
        shared = overlap(a, b)
    except GraphError as error:
        raise GraphError(
            f"{error}; a page compares circuits of one graph, and other.on(circuit.graph) brings "
            "one to another's"
        ) from error
    either = replace(a | b, scores=a.scores or b.scores)
    drawn = of_circuit(either, most or len(either))
    drawn = replace(drawn, edges=drawn.edges[: drawn.size], scores=drawn.scores[: drawn.size])
    ids = [either.graph.edge_id(edge) for edge in drawn.edges]
    edges = _shared(shared.edges)
    return replace(
        drawn,
        by=None,
        own=False,
        title=f"{names[0]} and {names[1]}",
        line=_compared(drawn, edges, names, a.scores is not None, len(either)),
        sides=tuple(_side(bool(a.mask[i]), bool(b.mask[i])) for i in ids),
        others=() if a.scores is None or b.scores is None else tuple(b.scores.values[ids].tolist()),
        overlap=Overlap(*names, edges, _shared(shared.nodes)),
    )


def _compared(
    drawn: Drawable, edges: Shared, names: tuple[str, str], of_first: bool, n: int
) -> str:
    said = [
        drawn.title,
        f"{edges.both:,} edges shared, {edges.only_a:,} only in {names[0]}, {edges.only_b:,} only "
        f"in {names[1]}",
        f"widths by the scores of {names[not of_first]}" if drawn.scores[:1] != [None] else "",
        f"the {drawn.size:,} strongest shown" if drawn.size < n else "",
    ]
    return " · ".join(one for one in said if one)


def _shared(of: SetOverlap) -> Shared:
    return Shared(
        of.n_shared,
        of.n_first - of.n_shared,
        of.n_second - of.n_shared,
        *(x if isfinite(x) else None for x in (of.jaccard, of.expected_jaccard)),
    )


def of_attribution_graph(graph: AttributionGraph, most: int) -> Drawable:
    """An attribution graph, its edges by the size of their weight.

    Raises:
        NumericalError: a weight that is not a finite number.
    """
    inside = torch.ones(len(graph.weight), dtype=torch.bool)
    order = rank(inside, graph.weight.cpu(), most, "abs").ids
    every = graph.edges
    said = graph.prompt.strip()
    return Drawable(
        [every[i] for i in order.tolist()],
        graph.weight[order].tolist(),
        len(order),
        "abs",
        False,
        len(graph.weight),
        look_of_graph(graph, {}, {}),
        said if len(said) <= 90 else f"… {said[-88:]}",
        f"{graph.provenance.model} · {len(graph.nodes):,} of {graph.n_active:,} nodes, "
        f"{len(graph.weight):,} edges · replacement {graph.replacement:.2f}, completeness "
        f"{graph.completeness:.2f}",
        graph.provenance,
        tuple(graph.text),
        "weight",
        single=_is_single(graph.weight),
    )


def names_of(a: Circuit, b: Circuit) -> tuple[str, str]:
    """What two circuits are called: by what differs of their methods, tasks or metrics.

    Returns:
        "A" and "B" where nothing differs.
    """
    made = [circuit.scores.provenance if circuit.scores else Provenance() for circuit in (a, b)]
    for of in (lambda m: m.method, lambda m: m.task, lambda m: m.metric):
        first, second = map(of, made)
        if first and second and first != second:
            return first, second
    return "A", "B"


def _at(edge: Edge, pos: int) -> Edge:
    return Edge(replace(edge.src, pos=pos), replace(edge.dest, pos=pos))


def _is_single(scores: Float[Tensor, "item"] | None) -> bool:
    return scores is None or scores.dtype != torch.float64


def _side(in_a: bool, in_b: bool) -> str:
    return "both" if in_a and in_b else "a" if in_a else "b"


def _title(model: str, made: Provenance) -> str:
    return " · ".join(one for one in (model, made.task, made.method) if one) or "Circuit"


def _line(n: int, n_edges: int, ranks: Ranks, what: str) -> str:
    said = f"{n:,} of {n_edges:,} {what}"
    if n > ranks.size:
        said += f", the {ranks.size:,} strongest shown"
    if ranks.own:
        said += "; by rank among themselves, before the other edges by the size of their scores"
    return said
