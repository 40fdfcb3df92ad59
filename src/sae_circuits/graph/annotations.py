"""What people say of nodes: labels, and groups of nodes that stand for one thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sae_circuits.errors import GraphError
from sae_circuits.graph.nodes import Node, parse_node

Texts = Mapping[str, str]
Groups = Mapping[str, Sequence[str]]


def text_of(node: Node, texts: Texts) -> str:
    """What a mapping says of a node by its name, or else by its name without the position.

    >>> from sae_circuits.graph import parse_node
    >>> text_of(parse_node("m3.f17@4"), {"m3.f17": "names after 'and'"})
    "names after 'and'"
    """
    return texts.get(node.name) or texts.get(replace(node, pos=None).name, "")


def group_of(nodes: Iterable[Node], groups: Groups) -> dict[Node, str]:
    """The group of each node that has one; members that are not among the nodes are passed over.

    A name without a position stands for the node at every position.

    >>> from sae_circuits.graph import parse_node
    >>> here = [parse_node(name) for name in ("m3.f17@4", "m3.f17@5", "m1.f2@4")]
    >>> {node.name: group for node, group in group_of(here, {"names": ["m3.f17"]}).items()}
    {'m3.f17@4': 'names', 'm3.f17@5': 'names'}

    Raises:
        GraphError: a member that is no node's name, a node in two groups, or a group with the
            name of a node.
    """
    nodes = tuple(nodes)
    found: dict[Node, str] = {}
    for group, members in groups.items():
        wanted = {parse_node(name) for name in members}
        if any(group == node.name for node in nodes):
            raise GraphError(f"the group {group!r} has the name of a node: give it another")
        for node in nodes:
            if node not in wanted and replace(node, pos=None) not in wanted:
                continue
            if node in found:
                raise GraphError(f"{node.name!r} is in two groups: {found[node]!r} and {group!r}")
            found[node] = group
    return found
