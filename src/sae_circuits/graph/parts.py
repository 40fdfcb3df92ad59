"""Parts of a graph: fewer nodes, or fewer features, the others merged into their error nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from sae_circuits.errors import GraphError
from sae_circuits.graph.blocks import Block
from sae_circuits.graph.nodes import Node, parse_node
from sae_circuits.graph.records import require_recorded
from sae_circuits.graph.splits import FeatureSource
from sae_circuits.graph.tensor_graph import TensorGraph

Features = Iterable[Node | str] | Mapping[str, Sequence[int]]


def subgraph(graph: TensorGraph, nodes: Iterable[Node | str]) -> TensorGraph:
    """See `TensorGraph.subgraph`."""
    wanted = {parse_node(n) if isinstance(n, str) else n for n in nodes}
    known = {*graph.src_nodes, *graph.dest_nodes}
    if missing := wanted - known - {node.component for node in known}:
        raise GraphError(f"{min(n.name for n in missing)!r} is not a node of {graph!r}")

    def kept(block: Block) -> Block:
        pairs = zip(block.members, block.nodes(), strict=True)
        members = [m for m, node in pairs if node in wanted or node.component in wanted]
        return replace(block, members=members)

    return _with_blocks(graph, map(kept, graph.writers), map(kept, graph.readers))


def restrict(graph: TensorGraph, features: Features) -> TensorGraph:
    """See `TensorGraph.restrict`."""
    chosen = _by_split(graph, features)
    members = {_name(b): b.members for b in graph.writers if b.kind == "feature"}
    for name, ids in chosen.items():
        if bad := sorted(set(ids) - set(members.get(name, ()))):
            raise GraphError(f"'{name}.f{bad[0]}' is not a feature of {graph!r}")

    def kept(block: Block) -> Block:
        if block.kind != "feature" or _name(block) not in chosen:
            return block
        return replace(block, members=sorted(set(chosen[_name(block)])))

    return _with_blocks(graph, map(kept, graph.writers), map(kept, graph.readers))


def with_saes(graph: TensorGraph, saes: Sequence[FeatureSource]) -> TensorGraph:
    """See `TensorGraph.with_saes`."""
    whole = TensorGraph.from_model(graph.architecture, saes=saes, split_kv=graph.splits_kv)
    there = {b.key: b for b in whole.writers if b.is_split}
    own = {b.key: b for b in graph.writers if b.is_split}
    if graph.made_with:
        require_recorded(graph.made_with, saes)
    places = {key[1:] for key in there} == {key[1:] for key in own}
    if not places or any(b.members[-1] not in there[key].members for key, b in own.items()):
        raise GraphError(f"these dictionaries do not make {graph!r}, but {whole!r}")
    return replace(graph, saes=tuple(saes))


def _with_blocks(
    graph: TensorGraph, writers: Iterable[Block], readers: Iterable[Block]
) -> TensorGraph:
    return replace(
        graph,
        writers=tuple(block for block in writers if len(block)),
        readers=tuple(block for block in readers if len(block)),
    )


def _name(block: Block) -> str:
    """The name of the split that a block is a part of."""
    return f"{block.site}{block.layer}"


def _by_split(graph: TensorGraph, features: Features) -> dict[str, list[int]]:
    """Ids of features by the name of their split; every split where nodes are given."""
    if isinstance(features, Mapping):
        by_name = cast("Mapping[str, Sequence[int]]", features)
        return {name: list(ids) for name, ids in by_name.items()}
    found: dict[str, list[int]] = {_name(b): [] for b in graph.writers if b.is_split}
    for given in features:
        node = parse_node(given) if isinstance(given, str) else given
        if node.kind != "feature" or node.index is None:
            raise GraphError(f"{node.name!r} is not a feature: name features, such as 'm3.f17'")
        found.setdefault(f"{node.site}{node.layer}", []).append(node.index)
    return found
