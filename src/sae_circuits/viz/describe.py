"""Edges by value, of a circuit or of an attribution graph, as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_low

from sae_circuits.graph import Edge, Node
from sae_circuits.graph.annotations import Groups, Texts, group_of, text_of
from sae_circuits.graph.nodes import Port
from sae_circuits.viz import parts
from sae_circuits.viz.picture import Effect, Picture, PictureEdge, PictureNode, width_of

Line = tuple[str, str, Port | None]  # source, destination, port


@dataclass(frozen=True)
class Look:
    """How a graph is to be shown.

    Args:
        labels: a short text under a node, by its name with or without the position.
        notes: a longer text that shows on hover.
        groups: node names by the name of the group that is drawn in their place, with the sum of
            their edges' scores.
        max_edges: where there are more, only those with the largest scores are drawn.
        parallel: MLPs stand beside the heads of their layer.
        share: how many query heads read one key and value.
        signs: what a negative and a positive score mean.
        short: texts that stand in a node instead of its name.
        strength: from 0 to 1, by node: how strongly a feature is tinted.
        columns: positions with their strings.
    """

    labels: Texts = field(default_factory=dict)
    notes: Texts = field(default_factory=dict)
    groups: Groups = field(default_factory=dict)
    max_edges: int = 500
    parallel: bool = False
    share: int = 1
    signs: tuple[Effect, Effect] = ("helps", "hurts")
    short: Mapping[Node, str] = field(default_factory=dict)
    strength: Mapping[Node, float] = field(default_factory=dict)
    columns: tuple[tuple[int, str], ...] = ()


def describe(
    edges: Sequence[Edge],
    scores: Sequence[float | None],
    look: Look,
    nodes: Iterable[Node] = (),
) -> Picture:
    """A picture, without a title, of edges and of the nodes that they join.

    Args:
        nodes: more nodes, to be drawn in their order even where no edge joins them.

    Raises:
        GraphError: groups that make no sense, see `group_of`.
    """
    given = dict.fromkeys(nodes)
    ends = {end.component for edge in edges for end in (edge.src, edge.dest)} - given.keys()
    ordered = [*given, *parts.in_order(ends, parallel=look.parallel)]
    inside = group_of(ordered, look.groups)
    lines = _strongest(_lines(edges, scores, inside), look.max_edges)
    largest = max((abs(score) for score in lines.values() if score is not None), default=None)
    drawn = {end for src, dest, _ in lines for end in (src, dest)}
    drawn |= {inside.get(node, node.name) for node in given}

    def between(pairs: set[tuple[Node, Node]]) -> tuple[tuple[str, str], ...]:
        named = {(inside.get(a, a.name), inside.get(b, b.name)) for a, b in pairs}
        return tuple(sorted((a, b) for a, b in named if a != b and {a, b} <= drawn))

    return Picture(
        title="",
        nodes=_nodes([n for n in ordered if inside.get(n, n.name) in drawn], inside, look),
        edges=tuple(_edge(line, score, largest, look) for line, score in lines.items()),
        links=between(parts.shared(ordered, look.share)),
        within=between(parts.within(ordered)),
        largest=largest,
        columns=look.columns or _columns(ordered),
    )


def _lines(
    edges: Sequence[Edge], scores: Sequence[float | None], inside: Mapping[Node, str]
) -> dict[Line, float | None]:
    """The lines to draw, with scores summed over the edges between two groups."""
    lines: dict[Line, float | None] = {}
    for edge, score in zip(edges, scores, strict=True):
        src, dest = edge.src.component, edge.dest.component
        ends = inside.get(src, src.name), inside.get(dest, dest.name)
        if ends[0] == ends[1]:
            continue
        line = (*ends, None if dest in inside else edge.dest.port)
        before = lines.get(line)
        lines[line] = score if before is None else before + (score or 0.0)
    return lines


def _strongest(lines: dict[Line, float | None], n: int) -> dict[Line, float | None]:
    """The n lines of largest score in the order given, the first of them on ties."""
    if len(lines) <= n:
        return lines
    ranked = sorted(lines, key=lambda line: -abs(lines[line] or 0.0))
    kept = set(ranked[:n])
    return {line: score for line, score in lines.items() if line in kept}


def _edge(line: Line, score: float | None, largest: float | None, look: Look) -> PictureEdge:
    src, dest, port = line
    effect: Effect = "unknown" if not score else look.signs[score > 0]
    name = f"{src}->{dest}<{port}>" if port else f"{src}->{dest}"
    return PictureEdge(name, src, dest, port, score, width_of(score, largest), effect)


def _nodes(
    nodes: Sequence[Node], inside: Mapping[Node, str], look: Look
) -> tuple[PictureNode, ...]:
    """The parts in rows, one for each height that occurs; a group stands in its middle."""
    members: dict[str, list[Node]] = {}
    for node in nodes:
        members.setdefault(inside.get(node, node.name), []).append(node)
    standing = {
        name: median_low([parts.height(node, parallel=look.parallel) for node in its])
        for name, its in members.items()
    }
    rows = {at: row for row, at in enumerate(sorted(set(standing.values())))}
    return tuple(
        _group(name, its, rows[standing[name]], look)
        if name in look.groups
        else _single(its[0], rows[standing[name]], look)
        for name, its in members.items()
    )


def _single(node: Node, row: int, look: Look) -> PictureNode:
    return PictureNode(
        node.name,
        node.kind,
        node.layer,
        row,
        parts.ports(node, look.share),
        pos=node.pos,
        label=text_of(node, look.labels),
        note=text_of(node, look.notes),
        short=look.short.get(node, ""),
        strength=look.strength.get(node),
    )


def _group(name: str, members: Sequence[Node], row: int, look: Look) -> PictureNode:
    layers = {node.layer for node in members}
    at = [node.pos for node in members if node.pos is not None]
    return PictureNode(
        name,
        "group",
        layers.pop() if len(layers) == 1 else None,
        row,
        pos=median_low(at) if at else None,
        label=look.labels.get(name, ""),
        note=look.notes.get(name, ""),
        members=tuple(node.name for node in members),
    )


def _columns(nodes: Sequence[Node]) -> tuple[tuple[int, str], ...]:
    """The positions that occur, by number."""
    return tuple((at, str(at)) for at in sorted({n.pos for n in nodes if n.pos is not None}))


def titled(picture: Picture, title: str, metric: str = "", measure: str = "score") -> Picture:
    """The same picture under a title, with the unit of its scores."""
    return replace(picture, title=title, metric=metric, measure=measure)
