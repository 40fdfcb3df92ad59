"""Changes of nodes, as they are asked for and as they are applied.

With a the activation of a feature or a neuron in the run at hand, at each position where it is
changed,

    ("set", x)    a' = x
    ("scale", x)  a' = x a
    ("add", x)    a' = a + x

Heads, MLPs, the input, error nodes and skip terms have no activation: what they write is scaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.errors import GraphError, OptionError, unknown
from sae_circuits.graph import Node, TensorGraph, parse_node

KINDS = ("set", "scale", "add")
_SCALAR = ("feature", "neuron")  # what has an activation
_WAYS = "('set', 0.0), ('scale', 2.0) or ('add', 3.0)"

Change = tuple[str, float | Float[Tensor, "n pos"]]
"""What is done, "set", "scale" or "add", and by how much: one number, or one for each token."""


@dataclass(frozen=True, eq=False)
class Step:
    """One change of one node.

    Args:
        node: without a position.
        pos: the only position where it is changed; None for all.
    """

    node: Node
    kind: str
    amount: float | Float[Tensor, "n pos"]
    pos: int | None = None

    def __call__(
        self, a: Float[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos"]:
        """The activation after the change, at real tokens; elsewhere as it is."""
        x = torch.as_tensor(self.amount, dtype=a.dtype, device=a.device)
        new = {"set": x, "scale": x * a, "add": a + x}[self.kind]
        if self.pos is not None:
            real = real & (torch.arange(a.shape[1], device=a.device) == self.pos)
        return torch.where(real, new, a)

    def of(self, examples: slice, width: int) -> Step:
        """The same for some examples, cut to the longest of them."""
        if not isinstance(self.amount, Tensor):
            return self
        return replace(self, amount=self.amount[examples, :width])


def read_changes(
    graph: TensorGraph, changes: Mapping[Node | str, Change], size: tuple[int, int], shortest: int
) -> tuple[Step, ...]:
    """Check changes and put them as steps, in the order in which they are given.

    Args:
        size: how many prompts there are, and the tokens of the longest.
        shortest: the tokens of the shortest.

    Raises:
        GraphError: not a writer of the graph, or a position outside a prompt.
        OptionError: a change of no known kind or amount, or one that the node does not take.
    """
    steps = []
    for name, change in changes.items():
        node = writer(graph, name)
        kind, amount = _pair(node, change, size)
        if node.kind == "error" and f"{node.site}{node.layer}" in graph.neurons:
            raise OptionError(
                f"{node.name!r} is what neurons leave, and stands nowhere by itself: change "
                "neurons, of a graph that has all of them"
            )
        if node.kind not in _SCALAR and kind != "scale":
            raise OptionError(
                f"{node.name!r} has no activation to {kind}: scale what it writes, as in "
                "('scale', 0.0), which takes it away"
            )
        if node.pos is not None and node.pos >= shortest:
            raise GraphError(
                f"position {node.pos} of {node.name!r} lies outside the shortest prompt, of "
                f"{shortest} tokens: take 0 to {shortest - 1}, counted from the first real token"
            )
        steps.append(Step(replace(node, pos=None), kind, amount, node.pos))
    return tuple(steps)


def read_watch(graph: TensorGraph, watch: Sequence[Node | str]) -> tuple[Node, ...]:
    """Check the features and neurons whose activations are asked for.

    Raises:
        GraphError: not a feature or a neuron of the graph, or one with a position.
    """
    nodes = tuple(writer(graph, name) for name in watch)
    for node in nodes:
        if node.kind not in _SCALAR or node.pos is not None:
            whole = replace(node, pos=None).name
            raise GraphError(
                f"{node.name!r} cannot be watched: watch a feature or a neuron without a position"
                + (f", {whole!r}, and take its column" if node.kind in _SCALAR else "")
            )
    return nodes


def writer(graph: TensorGraph, name: Node | str) -> Node:
    """A writer of a graph, given by value or by name, with or without a position.

    Raises:
        GraphError: the graph has no such writer; without dictionaries it has no features.
    """
    node = parse_node(name) if isinstance(name, str) else name
    if node.is_split and not any(block.is_split for block in graph.writers):
        raise GraphError(
            f"{node.name!r} is a part of what a dictionary splits, and {graph!r} has none: make "
            "the graph with TensorGraph.from_model(model, saes=load_saes(...))"
        )
    graph.src_id(replace(node, pos=None))
    return node


def _pair(node: Node, change: Any, size: tuple[int, int]) -> tuple[str, float | Tensor]:
    """The two parts of a change, checked."""
    if not isinstance(change, tuple) or len(change) != 2:
        raise OptionError(f"the change of {node.name!r} is {change!r}: give a pair, {_WAYS}")
    kind, amount = change
    if kind not in KINDS:
        raise OptionError(f"the change of {node.name!r}: {unknown('change', kind, KINDS)}")
    if isinstance(amount, Tensor) and amount.is_floating_point() and tuple(amount.shape) == size:
        finite = bool(amount.isfinite().all())
    elif isinstance(amount, Real):
        amount = float(amount)
        finite = amount - amount == 0
    else:
        got = f"a tensor {tuple(amount.shape)}" if isinstance(amount, Tensor) else repr(amount)
        raise OptionError(
            f"the amount of {node.name!r} is {got}: give a number, or one for each token, as "
            f"floats {list(size)} for these prompts"
        )
    if not finite:
        shown = "a tensor with NaN or infinity" if isinstance(amount, Tensor) else amount
        raise OptionError(f"the amount of {node.name!r} is {shown}: give finite numbers")
    return kind, amount
