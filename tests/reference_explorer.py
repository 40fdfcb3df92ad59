"""What the explorer's page shows, said slowly: edges by name, groups by sums, ways by all paths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import networkx as nx

Line = tuple[str, str, str]  # source, destination, port


def line(name: str) -> Line:
    """The ends of an edge by its name, such as "input->a0.h1<v>"."""
    src, _, dest = name.partition("->")
    dest, _, port = dest.partition("<")
    return src, dest, port.rstrip(">")


def name(of: Line) -> str:
    src, dest, port = of
    return f"{src}->{dest}<{port}>" if port else f"{src}->{dest}"


def grouped(
    scores: Mapping[str, float], groups: Mapping[str, Iterable[str]] | None = None
) -> dict[str, float]:
    """The sum of the scores of each line between nodes and groups; none within a group."""
    home = {member: group for group, members in (groups or {}).items() for member in members}
    sums: dict[str, float] = defaultdict(float)
    for edge, score in scores.items():
        src, dest, port = line(edge)
        ends = home.get(src, src), home.get(dest, dest)
        if ends[0] != ends[1]:
            sums[name((*ends, "" if dest in home else port))] += score
    return dict(sums)


def into(lines: Mapping[str, float], node: str) -> set[tuple[str, float]]:
    return {(one, score) for one, score in lines.items() if line(one)[1] == node}


def out_of(lines: Mapping[str, float], node: str) -> set[tuple[str, float]]:
    return {(one, score) for one, score in lines.items() if line(one)[0] == node}


def ways(lines: Mapping[str, float], joins: Iterable[tuple[str, str]] = ()) -> nx.MultiDiGraph:
    """A graph of lines with their sizes; what is joined is one step without a size."""
    graph = nx.MultiDiGraph()
    for one, score in lines.items():
        src, dest, _ = line(one)
        graph.add_edge(src, dest, key=one, size=abs(score))
    for a, b in joins:
        graph.add_edge(a, b, key=f" {a}|{b}", size=float("inf"))
    return graph


def _paths(graph: nx.MultiDiGraph, start: str, end: str) -> list[list[str]]:
    if start == end:
        return [[]]
    if start not in graph or end not in graph:
        return []
    return [[key for *_, key in path] for path in nx.all_simple_edge_paths(graph, start, end)]


def through(graph: nx.MultiDiGraph, node: str, start: str, end: str) -> set[str]:
    """All edges on all paths from the start through a node to the end."""
    before, after = _paths(graph, start, node), _paths(graph, node, end)
    if not before or not after:
        return set()
    return {key for path in (*before, *after) for key in path if key[0] != " "}


def widest(graph: nx.MultiDiGraph, node: str, start: str, end: str) -> float:
    """The largest, over all these paths, of the least size of an edge."""
    sizes = {key: size for *_, key, size in graph.edges(keys=True, data="size")}
    halves = [_paths(graph, start, node), _paths(graph, node, end)]
    if not all(halves):
        return 0.0
    return min(
        max(min((sizes[key] for key in path), default=float("inf")) for path in half)
        for half in halves
    )
