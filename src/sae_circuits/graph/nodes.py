"""Nodes and edges as values, and the grammar of their names.

    node  = "input" | "logits" | "m" layer | "a" layer "." head
    head  = "h" index [ "<" port ">" ] | "kv" index "<" ( "k" | "v" ) ">"
    port  = "q" | "k" | "v"
    edge  = node "->" node

A head writes as `a3.h1` and reads as `a3.h1<q>`, `a3.h1<k>`, `a3.h1<v>`; where several query heads
share a key/value head, they read it as `a3.kv0<k>`. The names are the field's own (EAP-IG, MIB).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sae_circuits.errors import GraphError

Kind = Literal["input", "head", "kv", "mlp", "logits"]
Port = Literal["q", "k", "v"]

_NODE = re.compile(
    r"(?P<input>input)|(?P<logits>logits)|m(?P<mlp>0|[1-9]\d*)"
    r"|a(?P<layer>0|[1-9]\d*)\.(?P<head>h|kv)(?P<index>0|[1-9]\d*)(?:<(?P<port>[qkv])>)?"
)


@dataclass(frozen=True, slots=True)
class Node:
    """One writer or one reader of the residual stream.

    >>> Node("head", 9, 6, "q").name, Node("mlp", 3).name
    ('a9.h6<q>', 'm3')
    """

    kind: Kind
    layer: int | None = None
    index: int | None = None
    port: Port | None = None

    @property
    def name(self) -> str:
        """The name that `parse_node` reads back."""
        if self.kind in ("input", "logits"):
            return self.kind
        if self.kind == "mlp":
            return f"m{self.layer}"
        port = f"<{self.port}>" if self.port else ""
        return f"a{self.layer}.{'h' if self.kind == 'head' else 'kv'}{self.index}{port}"

    @property
    def component(self) -> Node:
        """The part of the model that this node belongs to: a head without its port."""
        return Node(self.kind, self.layer, self.index) if self.port else self

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Edge:
    """One writer seen by one reader.

    >>> str(Edge(Node("head", 0, 1), Node("head", 1, 2, "k")))
    'a0.h1->a1.h2<k>'
    """

    src: Node
    dest: Node

    @property
    def name(self) -> str:
        """The name that `parse_edge` reads back."""
        return f"{self.src.name}->{self.dest.name}"

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=1 << 16)
def parse_node(name: str) -> Node:
    """Read a node's name: the inverse of `Node.name`.

    >>> parse_node("a9.h6<q>")
    Node(kind='head', layer=9, index=6, port='q')

    Raises:
        GraphError: the text is not a node's name.
    """
    match = _NODE.fullmatch(name)
    if match is None:
        raise GraphError(
            f"{name!r} is not a node's name: write 'input', 'a9.h6' (a head as source), "
            "'a9.h6<q>' (a head as destination), 'a3.kv1<k>', 'm3' or 'logits'"
        )
    if match["input"] or match["logits"]:
        return Node("input" if match["input"] else "logits")
    if match["mlp"]:
        return Node("mlp", int(match["mlp"]))
    kind: Kind = "head" if match["head"] == "h" else "kv"
    if kind == "kv" and match["port"] not in ("k", "v"):
        raise GraphError(f"{name!r}: a key/value head has a <k> and a <v>, and writes nothing")
    return Node(kind, int(match["layer"]), int(match["index"]), match["port"])  # type: ignore[arg-type]


def parse_edge(name: str) -> Edge:
    """Read an edge's name: the inverse of `Edge.name`.

    >>> parse_edge("input->m0").dest
    Node(kind='mlp', layer=0, index=None, port=None)

    Raises:
        GraphError: the text is not two nodes' names with `->` between them.
    """
    ends = name.split("->")
    if len(ends) != 2:
        raise GraphError(f"{name!r} is not an edge's name: write 'source->destination'")
    return Edge(parse_node(ends[0].strip()), parse_node(ends[1].strip()))
