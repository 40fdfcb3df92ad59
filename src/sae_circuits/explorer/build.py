"""From a circuit, two circuits or an attribution graph to what the explorer's page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sae_circuits.errors import OptionError
from sae_circuits.explorer.arrangement import read_arrangement, require_of
from sae_circuits.explorer.details import details_of
from sae_circuits.explorer.drawable import (
    Drawable,
    names_of,
    of_attribution_graph,
    of_circuit,
    of_span_circuit,
    of_two,
)
from sae_circuits.explorer.measured import measured
from sae_circuits.explorer.view import About, CircuitView, Lines, Part, Supernode
from sae_circuits.graph import AttributionGraph, Circuit, Provenance, SpanCircuit
from sae_circuits.graph.annotations import Groups, Texts, group_of
from sae_circuits.viz.describe import describe
from sae_circuits.viz.picture import MEANING, PictureNode

if TYPE_CHECKING:
    from sae_circuits.evaluation import Curve
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.graph.out import AnyDrawn

MORE = 2000  # edges beyond a circuit's own, for the slider to add


def circuit_view(
    circuit: AnyDrawn,
    other: AnyDrawn | None,
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
    """See `explore` of a circuit."""
    kept = read_arrangement(arrangement)
    by = None if curve is None else curve.by
    drawable = _drawable(circuit, other, names, max_edges, by)
    faithfulness = None if curve is None else measured(curve, drawable)
    found = view_of(drawable, labels, notes)
    nodes = {end.component for edge in drawable.edges for end in (edge.src, edge.dest)}
    group_of(nodes, groups)
    graph = circuit if isinstance(circuit, AttributionGraph) else circuit.graph
    details, texts = details_of(nodes, graph, stores, links)
    said = {one.name: one.label for one in details if one.label}
    if kept is not None and arrangement is not None:
        require_of(kept, [part.name for part in found.parts], arrangement)
    return replace(
        found,
        about=replace(found.about, title=found.about.title if title is None else title),
        parts=tuple(
            replace(part, label=part.label or said.get(part.name.partition("@")[0], ""))
            for part in found.parts
        ),
        groups={
            name: Supernode(tuple(members), labels.get(name, ""), notes.get(name, ""))
            for name, members in groups.items()
        },
        curve=faithfulness,
        details=details,
        texts=texts,
        arrangement=kept,
    )


def _drawable(
    circuit: AnyDrawn,
    other: AnyDrawn | None,
    names: tuple[str, str] | None,
    max_edges: int | None,
    by: str | None,
) -> Drawable:
    if max_edges is not None and max_edges < 1:
        raise OptionError(f"a page of {max_edges:,} edges shows nothing: give 1 or more")
    if other is not None:
        if not isinstance(circuit, Circuit) or not isinstance(other, Circuit):
            kind = type(other if isinstance(circuit, Circuit) else circuit).__name__
            raise OptionError(f"a {kind} cannot be compared: give two circuits")
        return of_two(circuit, other, names or names_of(circuit, other), max_edges)
    if isinstance(circuit, AttributionGraph):
        return of_attribution_graph(circuit, max_edges or MORE)
    most = max_edges or len(circuit) + MORE
    if isinstance(circuit, SpanCircuit):
        return of_span_circuit(circuit, most, by)
    return of_circuit(circuit, most, by)


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
            drawable.others,
        ),
        size=drawable.size,
        by=drawable.by,
        own=drawable.own,
        single=drawable.single,
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
