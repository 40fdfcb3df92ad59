"""Parts of a graph: fewer nodes, or fewer features, the others merged into their error nodes.

And which readers belong to which writers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from sae_circuits.errors import GraphError
from sae_circuits.graph.blocks import Block, find_node
from sae_circuits.graph.describe import describe
from sae_circuits.graph.nodes import Node, Part, parse_node
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
    own = {_name(b): b for b in graph.writers if b.is_narrow}
    for name, ids in chosen.items():
        if bad := sorted(set(ids) - set(own[name].members if name in own else ())):
            kind = own[name].kind if name in own else "feature"
            raise GraphError(f"'{name}.{kind[0]}{bad[0]}' is not a {kind} of {graph!r}")

    def kept(block: Block) -> Iterator[Block]:
        if not block.is_narrow or _name(block) not in chosen:
            yield block
            return
        few = replace(block, members=sorted(set(chosen[_name(block)])))
        yield few
        if len(few) < len(block) and ("error", *block.key[1:]) not in graph.src_starts:
            yield replace(block, kind="error", members=range(1), each=None)

    writers, readers = ([b for block in own for b in kept(block)] for own in _ends(graph))
    return _with_blocks(graph, writers, readers)


def is_part(graph: TensorGraph) -> bool:
    """See `TensorGraph.is_part`."""
    saes = [split.dictionary for split in graph.splits.values()]
    whole = describe(graph.architecture, saes, split_kv=graph.splits_kv, through=graph.through)
    every = {block.key: block for block in whole[0] if block.kind == "neuron"}
    lacking = [
        key
        for key, block in every.items()
        if ("error", *key[1:]) not in graph.src_starts
        and (key not in graph.src_starts or len(graph.src_starts[key][1]) < len(block))
    ]

    def fixed(blocks: Iterable[Block]) -> list[Block]:
        """All blocks but those of which nodes may be merged into others."""
        added = {("error", *key[1:]) for key, block in every.items() if block.each is not None}
        return [b for b in blocks if not b.is_narrow and b.key not in added]

    return bool(lacking) or any(
        fixed(found) != fixed(all_) for found, all_ in zip(_ends(graph), whole, strict=True)
    )


def readers_of(graph: TensorGraph) -> tuple[tuple[int, ...], ...]:
    """See `TensorGraph.readers_of`."""
    group = graph.architecture.n_heads // graph.architecture.n_kv_heads
    read_by: dict[Node, tuple[int, ...]] = {}
    through: dict[tuple[Part, int | None], tuple[int, ...]] = {}
    for i, node in enumerate(graph.dest_nodes):
        read_by[node.component] = (*read_by.get(node.component, ()), i)
        if node.kind in ("head", "kv", "mlp"):
            part: Part = "m" if node.kind == "mlp" else "a"
            through[part, node.layer] = (*through.get((part, node.layer), ()), i)

    def readers(node: Node) -> tuple[int, ...]:
        if node.head is not None:  # a neuron reads as its head does
            return readers(Node("head", node.layer, node.head))
        own = read_by.get(node, ())
        if node.kind == "head" and node.index is not None:
            return own + read_by.get(Node("kv", node.layer, node.index // group), ())
        if node.site is not None and not own:  # it reads through its layer's heads or MLP
            return through.get((node.site, node.layer), ())
        return own

    return tuple(readers(node) for node in graph.src_nodes)


def with_saes(graph: TensorGraph, saes: Sequence[FeatureSource]) -> TensorGraph:
    """See `TensorGraph.with_saes`."""
    whole = TensorGraph.from_model(
        graph.architecture, saes=saes, neurons=graph.neurons, split_kv=graph.splits_kv
    )
    there = {b.key: b for b in whole.writers if b.is_split and _name(b) not in graph.neurons}
    own = {b.key: b for b in graph.writers if b.is_split and _name(b) not in graph.neurons}
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


def _ends(graph: TensorGraph) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    return graph.writers, graph.readers


def _name(block: Block) -> str:
    """The name of the split that a block is a part of."""
    return f"{block.site}{block.layer}"


def _by_split(graph: TensorGraph, features: Features) -> dict[str, list[int]]:
    """Ids of features by the name of their split; every split where nodes are given."""
    if isinstance(features, Mapping):
        by_name = cast("Mapping[str, Sequence[int]]", features)
        return {name: list(ids) for name, ids in by_name.items()}
    found: dict[str, list[int]] = {_name(b): [] for b in graph.writers if b.is_split}
    each = graph.architecture.d_head
    for given in features:
        node = parse_node(given) if isinstance(given, str) else given
        if node.kind not in ("feature", "neuron") or node.index is None:
            raise GraphError(
                f"{node.name!r} is not a feature or a neuron: name such, as in 'm3.f17' or 'm3.n17'"
            )
        if find_node(node, graph.src_starts) is None:
            raise GraphError(f"{node.name!r} is not a {node.kind} of {graph!r}")
        index = node.index if node.head is None else node.head * each + node.index
        found.setdefault(f"{node.site}{node.layer}", []).append(index)
    return found
