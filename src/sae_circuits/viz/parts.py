"""Where each part of a model stands in a picture, read from its name alone.

A layer's rows, upwards: the stream before it, what its heads read, what is written of them, the
stream in its middle, what its MLP reads, what is written of it, the stream after it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from sae_circuits.graph import Node
from sae_circuits.graph.nodes import Kind, Port

_STEPS = 8
_HEIGHT = {"pre": 0, "kv": 1, "head": 2, "a": 3, "mid": 4, "mlp": 5, "m": 6, "post": 7}
_BESIDE_ATTENTION = {"mlp": "head", "m": "a"}  # where a block computes both from one stream
_RANK: tuple[Kind, ...] = (
    "input", "head", "kv", "mlp", "feature", "neuron", "skip", "error", "logits",
)  # fmt: skip


def height(node: Node, *, parallel: bool = False) -> float:
    """How high a part stands: it grows along the forward pass.

    Args:
        parallel: MLPs stand beside the heads of their layer.

    >>> from sae_circuits.graph import parse_node
    >>> names = ["input", "pre0.f1", "a0.h1", "a0.f2", "m0", "m0.error", "post0.f3", "a1.h0"]
    >>> heights = [height(parse_node(name)) for name in names]
    >>> heights == sorted(heights) and len(set(heights)) == len(names)
    True
    """
    if node.layer is None:
        return math.inf if node.kind == "logits" else -1.0
    part = node.site or node.kind
    if parallel:
        part = _BESIDE_ATTENTION.get(part, part)
    return float(node.layer * _STEPS + _HEIGHT[part])


def in_order(nodes: Iterable[Node], *, parallel: bool = False) -> list[Node]:
    """Nodes along the forward pass, then along the prompt, then by kind and number."""
    return sorted(
        nodes,
        key=lambda node: (
            height(node, parallel=parallel),
            -1 if node.pos is None else node.pos,
            _RANK.index(node.kind),
            node.site or "",
            node.head or 0,
            node.index or 0,
        ),
    )


def ports(node: Node, share: int = 1) -> tuple[Port, ...]:
    """The inputs of a head; where `share` heads read one key and value, a query head has q."""
    if node.kind == "kv":
        return ("k", "v")
    if node.kind == "head":
        return ("q",) if share > 1 else ("q", "k", "v")
    return ()


def shared(nodes: Collection[Node], share: int) -> set[tuple[Node, Node]]:
    """Which key/value heads feed which query heads."""
    return {
        (kv, head)
        for kv in nodes
        if kv.kind == "kv"
        for head in nodes
        if head.kind == "head" and (head.layer, head.pos) == (kv.layer, kv.pos)
        if head.index is not None and head.index // share == kv.index
    }


def within(nodes: Collection[Node]) -> set[tuple[Node, Node]]:
    """What a component reads under its own name, joined with what is written of it.

    Neurons, and an SAE on the output of a layer's heads or MLP, are written as `m3.n7`, `a3.f5` or
    `m3.error`, and read by no one but the component; parts that read and write under one name need
    no such link.
    """
    readers: dict[tuple[str, int | None, int | None], list[Node]] = {}
    for node in nodes:
        if node.kind == "mlp":
            readers.setdefault(("m", node.layer, node.pos), []).append(node)
        elif node.kind in ("head", "kv"):
            readers.setdefault(("a", node.layer, node.pos), []).append(node)
    for key, found in readers.items():
        readers[key] = [node for node in found if node.kind != "kv"] or found
    return {
        (reader, part)
        for part in nodes
        if part.site in ("a", "m")
        for reader in readers.get((part.site, part.layer, part.pos), ())
        if part.head is None or reader.kind == "kv" or part.head == reader.index
    }
