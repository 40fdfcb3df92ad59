"""What connections, virtual weights and lists of one's own say of one feature, by direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from sae_circuits.connectome.connect import Connections
from sae_circuits.connectome.pairs import PairConnections
from sae_circuits.dashboards.connected import Connected
from sae_circuits.dashboards.numbers import short
from sae_circuits.dashboards.places import place_of
from sae_circuits.errors import GraphError, OptionError
from sae_circuits.graph import Node, VirtualWeights, parse_node

Measured = Connections | PairConnections | VirtualWeights
Found = Connected | Measured

Way = tuple[str, str, str]  # direction, method, reference


@dataclass(frozen=True)
class _Told:
    """What one source says of a feature.

    Args:
        way: by which.
        strongest: names and values, the largest by size first.
        value: of any name; None where the source does not know it.
    """

    way: Way
    strongest: Sequence[tuple[str, float]]
    value: Callable[[str], float | None]


def connected_with(name: str, found: Sequence[Found], n: int) -> tuple[Connected, ...]:
    """What a feature is connected with, by each direction and method.

    Each method has the n largest of every method in its direction, as far as it knows them, so that
    they can be compared.

    Args:
        name: of the feature, such as "m3.f17".
        found: what says nothing of the feature is passed over.
        n: how many of each method.

    Raises:
        OptionError: two values of one connection by the same method; n below 1.
        GraphError: a feature that a dictionary lacks.
    """
    if n < 1:
        raise OptionError(f"n={n}: give 1 or more connections to show of each method")
    told = [one for source in found for one in _told(source, name, n)]
    ways = dict.fromkeys(one.way for one in told)
    strongest = {way: _strongest([t for t in told if t.way == way], n) for way in ways}
    shown = {
        direction: list(dict.fromkeys(i for w in ways if w[0] == direction for i in strongest[w]))
        for direction in ("up", "down")
    }
    return tuple(
        _connected(way, shown[way[0]], [one for one in told if one.way == way])
        for way in sorted(ways, key=lambda way: way[0] != "up")
    )


def says_something(source: Found, name: str) -> bool:
    """Whether a source says anything of a feature."""
    return any(True for _ in _told(source, name, 1))


def _told(source: Found, name: str, n: int) -> Iterator[_Told]:
    if isinstance(source, Connected):
        values = dict(zip(source.names, source.values, strict=True))
        yield _listed((source.direction, source.method, source.reference), values, n)
    elif isinstance(source, Connections):
        yield from _of_connections(source, parse_node(name), n)
    elif isinstance(source, PairConnections):
        yield from _of_pairs(source, parse_node(name), n)
    else:
        yield from _of_weights(source, parse_node(name), n)


def _listed(way: Way, values: Mapping[str, float], n: int) -> _Told:
    largest = sorted(values.items(), key=lambda one: -abs(one[1]))[:n]
    return _Told(way, [one for one in largest if one[1]], values.get)


def _of_connections(found: Connections, node: Node, n: int) -> Iterator[_Told]:
    if found.target == node.name:
        yield _Told(("up", found.method, found.reference), found.top(n), _reader(found))
    elif f"{node.site}{node.layer}" in found.values and node.kind == "feature":
        value = _reader(found)(node.name)
        values = {} if value is None else {found.target: value}
        yield _listed(("down", found.method, found.reference), values, n)


def _reader(found: Connections) -> Callable[[str], float | None]:
    def value(name: str) -> float | None:
        try:
            node = parse_node(name)
        except GraphError:
            return None
        if f"{node.site}{node.layer}" not in found.values and name not in found.components:
            return None
        known = found[name]
        return None if isnan(known) else known

    return value


def _of_pairs(found: PairConnections, node: Node, n: int) -> Iterator[_Told]:
    own, name = f"{node.site}{node.layer}", node.name
    if node.kind != "feature" or node.index not in found.asked.get(own, ()):
        return

    def value(edge: str) -> float | None:
        try:
            return found[edge]
        except GraphError:
            return None

    if own == found.target:
        way = "up", found.method, found.reference
        yield _Told(way, found.into(name, n), lambda other: value(f"{other}->{name}"))
    else:
        way = "down", found.method, found.reference
        yield _Told(way, found.of(name, n), lambda other: value(f"{name}->{other}"))


def _of_weights(found: VirtualWeights, node: Node, n: int) -> Iterator[_Told]:
    source, target = (place_of(record.writes[0]) for record in (found.source, found.target))
    own = f"{node.site}{node.layer}"
    method = "virtual" if found.head is None else "virtual by a{}.h{}".format(*found.head)
    if node.kind != "feature" or node.index is None:
        return
    if own == target and node.index in found.features:
        values = {f"{source}.f{i}": weight for i, weight in found.into(node.index)}
        yield _listed(("up", method, ""), values, n)
    elif own == source:
        values = {f"{target}.f{i}": weight for i, weight in found.of(node.index)}
        yield _listed(("down", method, ""), values, n)


def _strongest(told: Sequence[_Told], n: int) -> list[str]:
    every = sorted((one for t in told for one in t.strongest), key=lambda one: -abs(one[1]))
    return [name for name, _ in every[:n]]


def _connected(way: Way, names: Sequence[str], told: Sequence[_Told]) -> Connected:
    known: dict[str, float] = {}
    for name in names:
        values = [value for one in told if (value := one.value(name)) is not None]
        if len(set(values)) > 1:
            raise OptionError(
                f"{name!r} has {len(values)} values by {way[1]!r}, such as {values[0]:g} and "
                f"{values[1]:g}: give one of them"
            )
        if values:
            known[name] = values[0]
    order = sorted(known, key=lambda name: -abs(known[name]))
    values = tuple(short(np.array([known[name] for name in order], dtype=np.float64)))
    direction, method, reference = way
    return Connected(direction, method, tuple(order), values, reference)
