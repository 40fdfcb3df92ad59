"""What a page shows of a circuit, a circuit by span, two circuits, or an attribution graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sae_circuits.errors import OptionError
from sae_circuits.explorer.arrangement import read_arrangement
from sae_circuits.explorer.details import details_of
from sae_circuits.explorer.ranks import Ranks, rank
from sae_circuits.explorer.view import About, CircuitView, Lines, Measured, Overlap, Part
from sae_circuits.graph import (
    AttributionGraph,
    Circuit,
    Edge,
    Edges,
    Provenance,
    SpanCircuit,
    parse_node,
)
from sae_circuits.graph.annotations import Groups, Texts, group_of
from sae_circuits.viz.describe import Look, describe
from sae_circuits.viz.picture import MEANING, PictureNode
from sae_circuits.viz.pictures import look_of, look_of_graph

if TYPE_CHECKING:
    from sae_circuits.evaluation import Curve
    from sae_circuits.features.dictionary import FeatureDictionary

MORE = 2000  # edges beyond a circuit's own, for the slider to add


@dataclass(frozen=True)
class Drawable:
    """Edges by rank, with all that is said of them."""

    edges: Sequence[Edge]
    scores: Sequence[float | None]
    size: int
    by: str | None
    n_edges: int
    look: Look
    title: str
    line: str
    provenance: Provenance
    columns: tuple[str, ...] = ()
    measure: str = "score"
    sides: tuple[str, ...] = ()
    overlap: Overlap | None = None


def circuit_view(
    circuit: Circuit | SpanCircuit | AttributionGraph,
    other: Circuit | None,
    *,
    curve: Curve | None,
    stores: Sequence[FeatureDictionary],
    links: Mapping[str, str],
    title: str | None,
    names: tuple[str, str] | None,
    max_edges: int | None,
    labels: Texts,
    notes: Texts,
    groups: Groups,
    arrangement: str | Path | None,
) -> CircuitView:
    """See `CircuitView.build`."""
    kept = read_arrangement(arrangement)
    drawable = _drawable(circuit, other, names, max_edges)
    if curve is not None and drawable.by is None:
        raise OptionError("a curve is of the scores of one circuit: leave it out of a comparison")
    found = view_of(drawable, labels, notes)
    group_of((parse_node(part.name) for part in found.parts), groups)
    names_of = [part.name for part in found.parts]
    graph = circuit if isinstance(circuit, AttributionGraph) else circuit.graph
    details, texts = details_of(names_of, graph, stores, links)
    said = {one.name: one.label for one in details if one.label}
    return replace(
        found,
        about=replace(found.about, title=found.about.title if title is None else title),
        parts=tuple(
            replace(part, label=part.label or said.get(part.name.partition("@")[0], ""))
            for part in found.parts
        ),
        groups={name: tuple(members) for name, members in groups.items()},
        curve=None if curve is None else measured(curve),
        details=details,
        texts=texts,
        arrangement=kept,
    )


def _drawable(
    circuit: Circuit | SpanCircuit | AttributionGraph,
    other: Circuit | None,
    names: tuple[str, str] | None,
    max_edges: int | None,
) -> Drawable:
    if other is not None:
        if not isinstance(circuit, Circuit):
            raise OptionError(f"a {type(circuit).__name__} cannot be compared: give two circuits")
        most = max_edges or len(circuit | other)
        return of_two(circuit, other, names or names_of(circuit, other), most)
    if isinstance(circuit, AttributionGraph):
        return of_attribution_graph(circuit, max_edges or MORE)
    most = max_edges or len(circuit) + MORE
    if isinstance(circuit, SpanCircuit):
        return of_span_circuit(circuit, most)
    return of_circuit(circuit, most)


def measured(curve: Curve) -> Measured:
    """What a page shows of a curve."""
    random = [sum(at) / len(at) for at in zip(*curve.random, strict=True)]
    low, high = zip(*curve.band, strict=True) if curve.band else ((), ())
    return Measured(curve.n_edges, curve.faithfulness, low, high, tuple(random))


def names_of(a: Circuit, b: Circuit) -> tuple[str, str]:
    """What two circuits are called: by what differs of their methods, tasks or sizes.

    Returns:
        "A" and "B" where nothing differs.
    """
    made = [circuit.scores.provenance if circuit.scores else Provenance() for circuit in (a, b)]
    for of in (lambda m: m.method, lambda m: m.task, lambda m: m.metric):
        first, second = map(of, made)
        if first and second and first != second:
            return first, second
    return "A", "B"


def of_circuit(circuit: Circuit, most: int) -> Drawable:
    """A circuit, and of its scores the edges that would come next."""
    scores = None if circuit.scores is None else circuit.scores.values.cpu()
    ranks = rank(circuit.mask.cpu(), scores, most)
    edges = list(Edges(circuit.graph, ranks.ids))
    values = [None] * len(edges) if scores is None else scores[ranks.ids].tolist()
    made = circuit.scores.provenance if circuit.scores else Provenance()
    return Drawable(
        edges, values, ranks.size, ranks.by, circuit.graph.n_edges, look_of(circuit.graph),
        _title(circuit.graph.architecture.model, made),
        _line(len(circuit), circuit.graph.n_edges, ranks, "edges"), made,
    )  # fmt: skip


def of_span_circuit(circuit: SpanCircuit, most: int) -> Drawable:
    """A circuit by span: a node for each span at which an edge joins it."""
    names = list(circuit.parts)
    scores = None
    if circuit.scores is not None:
        known = circuit.scores
        scores = torch.stack([known[name].values.cpu() for name in names])
    ranks = rank(circuit.mask.flatten(), None if scores is None else scores.flatten(), most)
    n = circuit.graph.n_edges
    plain = Edges(circuit.graph, ranks.ids % n)
    edges = [_at(edge, i) for edge, i in zip(plain, (ranks.ids // n).tolist(), strict=True)]
    values = [None] * len(edges) if scores is None else scores.flatten()[ranks.ids].tolist()
    made = circuit.scores.provenance if circuit.scores else Provenance()
    nodes = {end.component for edge in edges for end in (edge.src, edge.dest)}
    look = replace(
        look_of(circuit.graph),
        columns=tuple(enumerate(names)),
        short={node: replace(node, pos=None).name for node in nodes},
    )
    return Drawable(
        edges, values, ranks.size, ranks.by, n * len(names), look,
        _title(circuit.graph.architecture.model, made),
        _line(len(circuit), n * len(names), ranks, "edges at spans"), made, tuple(names),
    )  # fmt: skip


def of_two(a: Circuit, b: Circuit, names: tuple[str, str], most: int) -> Drawable:
    """Two circuits of one graph: the shared edges first, then those of one alone, by size.

    Raises:
        GraphError: circuits of different graphs.
    """
    either = a | b
    circuit = replace(either, scores=a.scores or b.scores)
    drawn = of_circuit(circuit, most)
    ids = [circuit.graph.edge_id(edge) for edge in drawn.edges[: drawn.size]]
    sides = tuple(_side(bool(a.mask[i]), bool(b.mask[i])) for i in ids)
    edges = (len(a & b), len(a - b), len(b - a))
    own, others = set(a.nodes), set(b.nodes)
    nodes = (len(own & others), len(own - others), len(others - own))
    return replace(
        drawn,
        edges=drawn.edges[: drawn.size],
        scores=drawn.scores[: drawn.size],
        by=None,
        title=f"{names[0]} and {names[1]}",
        line=f"{drawn.title} · {edges[0]:,} edges shared, {edges[1]:,} only in {names[0]}, "
        f"{edges[2]:,} only in {names[1]}",
        sides=sides,
        overlap=Overlap(*names, edges, nodes),
    )


def of_attribution_graph(graph: AttributionGraph, most: int) -> Drawable:
    """An attribution graph, its edges by the size of their weight."""
    order = graph.weight.abs().sort(descending=True, stable=True).indices[:most]
    every = graph.edges
    said = graph.prompt.strip()
    return Drawable(
        [every[i] for i in order.tolist()],
        graph.weight[order].tolist(),
        len(order),
        "abs",
        len(graph.weight),
        look_of_graph(graph, {}, {}),
        said if len(said) <= 90 else f"… {said[-88:]}",
        f"{graph.provenance.model} · {len(graph.nodes):,} of {graph.n_active:,} nodes, "
        f"{len(graph.weight):,} edges · replacement {graph.replacement:.2f}, completeness "
        f"{graph.completeness:.2f}",
        graph.provenance,
        tuple(graph.text),
        "weight",
    )


def view_of(drawable: Drawable, labels: Texts, notes: Texts) -> CircuitView:
    """Place the nodes, and put all that is known into plain values."""
    look = drawable.look
    look = replace(look, labels={**look.labels, **labels}, notes={**look.notes, **notes})
    look = replace(look, max_edges=max(len(drawable.edges), 1))
    picture = describe(drawable.edges, drawable.scores, look)
    index = {node.name: i for i, node in enumerate(picture.nodes)}
    signs = look.signs
    return CircuitView(
        about=About(
            title=drawable.title,
            line=drawable.line,
            measure=drawable.measure,
            metric=drawable.provenance.metric,
            signs=signs,
            meanings=tuple(MEANING[sign] for sign in signs),
            provenance=_made(drawable.provenance),
        ),
        parts=tuple(_part(node) for node in picture.nodes),
        lines=Lines(
            tuple(index[edge.src.component.name] for edge in drawable.edges),
            tuple(index[edge.dest.component.name] for edge in drawable.edges),
            tuple(edge.dest.port or "" for edge in drawable.edges),
            tuple(drawable.scores),
            drawable.sides,
        ),
        size=drawable.size,
        by=drawable.by,
        n_edges=drawable.n_edges,
        rows=picture.row_names,
        columns=drawable.columns,
        joins=tuple((index[a], index[b]) for a, b in (*picture.links, *picture.within)),
        overlap=drawable.overlap,
    )


def _part(node: PictureNode) -> Part:
    return Part(
        node.name, node.kind, node.layer, node.row, node.text, node.pos, tuple(node.ports),
        node.label, node.note, node.strength,
    )  # fmt: skip


def _at(edge: Edge, pos: int) -> Edge:
    return Edge(replace(edge.src, pos=pos), replace(edge.dest, pos=pos))


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


def _made(provenance: Provenance) -> dict[str, str]:
    """How scores were made, in words."""
    named = {
        "model": provenance.model,
        "task": provenance.task,
        "method": provenance.method,
        "metric": provenance.metric,
        "intervention": provenance.intervention,
        "examples": f"{provenance.n_examples:,}" if provenance.n_examples else "",
        "seed": "" if provenance.seed is None else str(provenance.seed),
        "sae-circuits": provenance.version,
    }
    return {name: value for name, value in named.items() if value}
