"""`ConnectomeView.build`: connections and virtual weights, by the features in the middle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sae_circuits._version import __version__
from sae_circuits.connectome.connect import Connections
from sae_circuits.connectome.pairs import PairConnections
from sae_circuits.dashboards.connect import hosted_in
from sae_circuits.dashboards.connected import differing
from sae_circuits.dashboards.connectome_view import ConnectomeView, Drawn, Target
from sae_circuits.dashboards.gathered import Measured, connected_with
from sae_circuits.dashboards.listed import hosted_by, listed
from sae_circuits.errors import GraphError, OptionError
from sae_circuits.graph import SourceRecord, TensorGraph, VirtualWeights, parse_node

if TYPE_CHECKING:
    from sae_circuits.features.dictionary import FeatureDictionary


def connectome_view(
    connections: Measured | Sequence[Any],
    targets: Sequence[str] | None = None,
    stores: Mapping[str, FeatureDictionary] | None = None,
    n: int = 50,
    title: str | None = None,
) -> ConnectomeView:
    """A view of the connections of some features: see `ConnectomeView.build`."""
    if isinstance(connections, Measured):
        connections = [connections]
    found = _required(connections)
    middle = tuple(_target(name, found, n) for name in _names(found, targets))
    ways = [own for target in middle for own in target.connections]
    names = dict.fromkeys([t.name for t in middle] + [name for own in ways for name in own.names])
    hosted = hosted_in(found) | hosted_by(stores)
    about = Drawn(
        title or (f"Connectome of {middle[0].name}" if len(middle) == 1 else "Connectome"),
        _model(found),
        tuple(dict.fromkeys(own.title for own in ways)),
        _provenance(found),
    )
    return ConnectomeView(about, middle, listed(names, stores), tuple(hosted.values()))


def _required(connections: Sequence[Any]) -> list[Measured]:
    for one in connections:
        if not isinstance(one, Measured):
            raise OptionError(
                f"{one!r:.60} is no Connections, PairConnections or VirtualWeights: give what "
                "connections, pair_connections and virtual_weights of sae_circuits return"
            )
    return list(connections)


def _names(found: Sequence[Measured], targets: Sequence[str] | None) -> list[str]:
    """The features that can stand in the middle."""
    if targets is None:
        targets = [one.target for one in found if isinstance(one, Connections)]
    named = list(dict.fromkeys([targets] if isinstance(targets, str) else targets))
    for name in named:
        if parse_node(name).kind != "feature":
            raise GraphError(f"{name!r} is no feature: name it like 'm3.f17'")
    if not named:
        raise OptionError(
            "no feature to stand in the middle: give connections, or name some with targets=, "
            "such as ['m3.f17']"
        )
    return named


def _target(name: str, found: Sequence[Measured], n: int) -> Target:
    own = connected_with(name, found, n)
    if not own:
        raise OptionError(
            f"nothing that was given says anything of {name}: give connections of which it is the "
            "target or an upstream feature, or virtual weights of its dictionary"
        )
    return Target(name, own, differing(own))


def _graphs(one: Measured) -> list[TensorGraph]:
    if isinstance(one, Connections):
        return list(one.graphs.values())
    return (
        [scores.graph for scores in one.pairs.values()] if isinstance(one, PairConnections) else []
    )


def _model(found: Sequence[Measured]) -> str:
    first = next((graph for one in found for graph in _graphs(one)), None)
    if first is not None:
        return first.architecture.model
    weights = (one.provenance.model for one in found if isinstance(one, VirtualWeights))
    return next(weights, "")


def _records(found: Sequence[Measured]) -> Iterator[SourceRecord]:
    for one in found:
        if isinstance(one, VirtualWeights):
            yield from (one.source, one.target)
        else:
            for graph in _graphs(one):
                yield from graph.records


def _provenance(found: Sequence[Measured]) -> dict[str, Any]:
    said = {record.name: record.fingerprint for record in _records(found)}
    return {"dictionaries": dict(sorted(said.items())), "version": __version__}
