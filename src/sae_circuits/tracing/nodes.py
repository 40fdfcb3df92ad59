"""The nodes of an attribution graph, as columns of numbers.

They stand along the forward pass: the tokens; for each layer, by position, the active features of
its transcoder and what they leave over; the logits. Every edge leads from a node to a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.graph import Node
from sae_circuits.tracing.local import Local

TOKEN, FEATURE, ERROR, LOGIT = range(4)


@dataclass(frozen=True, eq=False)
class Nodes:
    """All nodes before pruning.

    Args:
        kind: TOKEN, FEATURE, ERROR or LOGIT.
        layer: of a feature or an error node; the number of layers for logits, -1 for tokens.
        index: of a feature in its transcoder; of a logit, or of a token, in the vocabulary.
        member: the how-manieth of the layer's active features, or of the logits, it is.
        activation: of each feature; of a logit its probability; 1 for tokens and error nodes.
    """

    kind: Int64[Tensor, "node"]
    layer: Int64[Tensor, "node"]
    pos: Int64[Tensor, "node"]
    index: Int64[Tensor, "node"]
    member: Int64[Tensor, "node"]
    activation: Float[Tensor, "node"]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def n_sources(self) -> int:
        """All but the logits, which stand last."""
        return len(self) - int((self.kind == LOGIT).sum())

    @property
    def is_dest(self) -> Bool[Tensor, "node"]:
        """Features and logits: what direct effects arrive at."""
        return (self.kind == FEATURE) | (self.kind == LOGIT)

    def named(self, some: Int64[Tensor, "some"]) -> tuple[Node, ...]:
        """Some of the nodes as values."""
        columns = (self.kind, self.layer, self.pos, self.index)
        rows = zip(*(column[some].tolist() for column in columns), strict=True)
        return tuple(_node(*row) for row in rows)


def _node(kind: int, layer: int, pos: int, index: int) -> Node:
    if kind == TOKEN:
        return Node("input", pos=pos)
    if kind == LOGIT:
        return Node("logits", index=index, pos=pos)
    if kind == ERROR:
        return Node("error", layer, site="m", pos=pos)
    return Node("feature", layer, index, site="m", pos=pos)


def number_nodes(
    local: Local,
    tokens: Int64[Tensor, "pos"],
    vocabulary: Int64[Tensor, "logit"],
    probability: Float[Tensor, "logit"],
    first_position: int,
) -> Nodes:
    """Number the nodes of a local replacement model and of some logits."""
    device, n_pos = tokens.device, len(tokens)
    every = torch.arange(n_pos, device=device)
    ones = torch.ones(n_pos, dtype=local.dtype, device=device)
    parts = [_part(TOKEN, -1, every, tokens, every, ones)]
    for number, layer in enumerate(local.layers):
        if layer.error is None:
            continue
        rest = every[first_position:]
        one = [_part(ERROR, number, rest, rest * 0, rest, ones[first_position:])]
        if number in local.active:
            a = local.active[number]
            members = torch.arange(len(a.pos), device=device)
            one.insert(0, _part(FEATURE, number, a.pos, a.index, members, a.activation))
        both = [torch.cat(columns) for columns in zip(*one, strict=True)]
        order = both[2].argsort(stable=True)  # by position, the error node last
        parts.append(tuple(column[order] for column in both))
    last = torch.full_like(vocabulary, n_pos - 1)
    members = torch.arange(len(vocabulary), device=device)
    parts.append(_part(LOGIT, len(local.layers), last, vocabulary, members, probability))
    kind, layer, pos, index, member, activation = (
        torch.cat(columns) for columns in zip(*parts, strict=True)
    )
    return Nodes(kind, layer, pos, index, member, activation)


def _part(
    kind: int, layer: int, pos: Tensor, index: Tensor, member: Tensor, activation: Tensor
) -> tuple[Tensor, ...]:
    """Nodes of one kind in one layer, in the order of the fields of `Nodes`."""
    full = torch.full_like(pos, kind), torch.full_like(pos, layer)
    return (*full, pos, index, member, activation)
