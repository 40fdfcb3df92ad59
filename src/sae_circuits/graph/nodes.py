"""Nodes and edges as values, and the grammar of their names.

    node  = part [ "@" position ]
    part  = "input" | "logits" [ ".t" token ] | "m" layer | "a" layer "." head | split | neuron
    head  = "h" index [ "<" port ">" ] | "kv" index "<" ( "k" | "v" ) ">"
    port  = "q" | "k" | "v"
    split = site layer "." ( "f" index | "error" | "skip" )
    site  = "a" | "m" | "pre" | "mid" | "post"
    neuron = "m" layer ".n" index | "a" layer ".h" index ".n" index
    edge  = node "->" node

A head writes as `a3.h1` and reads as `a3.h1<q>`, `a3.h1<k>`, `a3.h1<v>`; where several query heads
share a key/value head, they read it as `a3.kv0<k>`. These names are the field's own (EAP-IG, MIB).

A dictionary splits what a layer's attention (`a3`) or MLP (`m3`) writes, or the stream before a
layer, in its middle or after it (`pre3`, `mid3`, `post3`), into features (`m3.f17`), what is left
(`m3.error`) and, for a skip transcoder, what passes its features by (`m3.skip`).

A neuron is one number a token that its component writes along a direction of its own: `m3.n17` is
hidden unit 17 of an MLP, `a2.h1.n5` output coordinate 5 of a head.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

from sae_circuits.errors import GraphError, require

Kind = Literal["input", "head", "kv", "mlp", "feature", "neuron", "error", "skip", "logits"]
KINDS: tuple[str, ...] = get_args(Kind)
Port = Literal["q", "k", "v"]
Part = Literal["a", "m", "pre", "mid", "post"]

_NODE = re.compile(
    r"(?:(?P<input>input)|(?P<logits>logits)(?:\.t(?P<token>0|[1-9]\d*))?|m(?P<mlp>0|[1-9]\d*)"
    r"|a(?P<layer>0|[1-9]\d*)\.(?P<head>h|kv)(?P<index>0|[1-9]\d*)(?:<(?P<port>[qkv])>)?"
    r"|(?:m(?P<of>0|[1-9]\d*)|a(?P<in>0|[1-9]\d*)\.h(?P<which>0|[1-9]\d*))\.n(?P<neuron>0|[1-9]\d*)"
    r"|(?P<site>a|m|pre|mid|post)(?P<at>0|[1-9]\d*)\.(?:f(?P<feature>0|[1-9]\d*)|(?P<rest>error|skip))"
    r")(?:@(?P<pos>0|[1-9]\d*))?"
)


@dataclass(frozen=True, slots=True)
class Node:
    """One writer or one reader of the residual stream.

    `parse_node` reads its name. `site` says what a feature, a neuron, an error node or a skip term
    is a part of, and `head` of which head a neuron is an output; `pos` is the token's position in
    graphs of single tokens, and `index` of the logits the token that is predicted.

    >>> Node("head", 9, 6, "q").name, Node("mlp", 3).name, Node("feature", 3, 17, site="post").name
    ('a9.h6<q>', 'm3', 'post3.f17')
    >>> Node("head", 9, 6), parse_node("m3")
    (Node('a9.h6'), Node('m3'))
    """

    kind: Kind
    layer: int | None = None
    index: int | None = None
    port: Port | None = None
    site: Part | None = None
    pos: int | None = None
    head: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise GraphError(
                f"{self.kind!r} is no kind of node ({', '.join(KINDS)}): graph.parse_node reads a "
                "name, such as 'a9.h6'"
            )

    @property
    def name(self) -> str:
        """The name that `parse_node` reads back."""
        at = "" if self.pos is None else f"@{self.pos}"
        if self.kind == "logits":
            return f"logits{'' if self.index is None else f'.t{self.index}'}{at}"
        if self.kind == "input":
            return f"input{at}"
        if self.kind == "mlp":
            return f"m{self.layer}{at}"
        if self.kind == "feature":
            return f"{self.site}{self.layer}.f{self.index}{at}"
        if self.kind == "neuron":
            head = "" if self.head is None else f".h{self.head}"
            return f"{self.site}{self.layer}{head}.n{self.index}{at}"
        if self.kind in ("error", "skip"):
            return f"{self.site}{self.layer}.{self.kind}{at}"
        port = f"<{self.port}>" if self.port else ""
        return f"a{self.layer}.{'h' if self.kind == 'head' else 'kv'}{self.index}{port}{at}"

    @property
    def component(self) -> Node:
        """The part of the model that this node belongs to: a head without its port."""
        return replace(self, port=None) if self.port else self

    @property
    def is_split(self) -> bool:
        """Whether this is a part of what is split: a feature, a neuron, an error or a skip."""
        return self.site is not None

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Node({self.name!r})"


@dataclass(frozen=True, slots=True)
class Edge:
    """One writer seen by one reader; `parse_edge` reads its name.

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

    def __repr__(self) -> str:
        return f"Edge({self.name!r})"


@lru_cache(maxsize=1 << 16)
def parse_node(name: str) -> Node:
    """Read a node's name: the inverse of `Node.name`.

    >>> parse_node("a9.h6<q>").port, parse_node("m3.f17").index, parse_node("post0.error@4").pos
    ('q', 17, 4)

    Raises:
        GraphError: the text is not a node's name.
    """
    match = _NODE.fullmatch(name)
    if match is None:
        raise GraphError(
            f"{name!r} is not a node's name: write 'input', 'a9.h6' (a head as source), "
            "'a9.h6<q>' (a head as destination), 'a3.kv1<k>', 'm3', 'logits', or a feature or "
            "what is left beside them, such as 'm3.f17', 'a3.f17', 'post3.f17' and 'm3.error', or "
            "a neuron, such as 'm3.n17' and 'a2.h1.n5'"
        )
    pos = _int(match["pos"])
    if match["input"]:
        return Node("input", pos=pos)
    if match["logits"]:
        return Node("logits", index=_int(match["token"]), pos=pos)
    if match["mlp"]:
        return Node("mlp", int(match["mlp"]), pos=pos)
    if match["neuron"]:
        part, at, head = (
            ("m", match["of"], None) if match["of"] else ("a", match["in"], match["which"])
        )
        return Node("neuron", int(at), int(match["neuron"]), site=part, pos=pos, head=_int(head))  # type: ignore[arg-type]
    if match["site"]:
        part, layer = match["rest"] or "feature", int(match["at"])
        return Node(part, layer, _int(match["feature"]), site=match["site"], pos=pos)  # type: ignore[arg-type]
    kind: Kind = "head" if match["head"] == "h" else "kv"
    if kind == "kv" and match["port"] not in ("k", "v"):
        raise GraphError(f"{name!r}: a key/value head has a <k> and a <v>, and writes nothing")
    return Node(kind, int(match["layer"]), int(match["index"]), match["port"], pos=pos)  # type: ignore[arg-type]


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)


def parse_edge(name: str) -> Edge:
    """Read an edge's name: the inverse of `Edge.name`.

    >>> parse_edge("input->m0").dest.name
    'm0'

    Raises:
        GraphError: the text is not two nodes' names with `->` between them.
    """
    ends = name.split("->")
    if len(ends) != 2:
        raise GraphError(f"{name!r} is not an edge's name: write 'source->destination'")
    return Edge(parse_node(ends[0].strip()), parse_node(ends[1].strip()))


def edge_of(edge: Edge | str) -> Edge:
    """An edge that is given by value or by name.

    Raises:
        GraphError: the text is not an edge's name.
        ArgumentError: neither.
    """
    if isinstance(edge, str):
        return parse_edge(edge)
    require("edge", edge, Edge, "an Edge or its name, such as 'a0.h1->m2'")
    return edge
