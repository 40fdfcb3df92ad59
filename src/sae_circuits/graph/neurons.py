"""Neurons: the parts of heads and MLPs that need no dictionary.

A hidden unit of an MLP writes its activation along a row of W_out, an output coordinate of a head
its z along a row of W_O. So a layer's neurons are the features of a dictionary whose encoder is the
identity, on what stands before that last matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sae_circuits.errors import GraphError, unknown
from sae_circuits.graph.architecture import Architecture

Asked = bool | str | Sequence[str]
"""Which neurons are nodes: "mlp", "heads", True for both, or parts of layers: `["m3", "a0"]`."""


class Where(NamedTuple):
    """What neurons are read off: `z` of a layer's heads, or an MLP's hidden units."""

    kind: Literal["z", "mlp_post"]
    layer: int

    @property
    def name(self) -> str:
        """Kind and layer."""
        return f"{self.kind}.{self.layer}"


@dataclass(frozen=True)
class Neurons:
    """The neurons of one layer's MLP or heads: a source of nodes without weights of its own.

    Args:
        part: "m" or "a".
        layer: of the model.
        n_features: how many neurons there are.
        each: how many belong to one head; None for an MLP.
    """

    part: Literal["a", "m"]
    layer: int
    n_features: int
    each: int | None = None

    is_sae = True
    has_skip = False
    fingerprint = ""

    @classmethod
    def of(cls, arch: Architecture, name: str) -> Neurons:
        """Those of a part of a layer, such as `m3` or `a2`."""
        layer = int(name[1:])
        if name[0] == "m":
            return cls("m", layer, arch.d_mlp)
        return cls("a", layer, arch.n_heads * arch.d_head, arch.d_head)

    @property
    def name(self) -> str:
        """The part and the layer."""
        return f"{self.part}{self.layer}"

    @property
    def reads(self) -> Where:
        """What they are read off."""
        return Where("z" if self.part == "a" else "mlp_post", self.layer)

    @property
    def writes(self) -> tuple[Where]:
        """The same: there they stand."""
        return (self.reads,)

    def require_fits(self, arch: Architecture) -> None:
        """Nothing to check: they are the model's own."""

    def __repr__(self) -> str:
        return f"neurons of {self.name}"


def neuron_parts(arch: Architecture, asked: Asked) -> tuple[str, ...]:
    """The parts of layers whose neurons are nodes, along the forward pass.

    >>> arch = Architecture("tiny", 2, 1, 1, 8, 4, 10, 16, d_mlp=32)
    >>> neuron_parts(arch, "mlp"), neuron_parts(arch, True), neuron_parts(arch, ["m1", "a0"])
    (('m0', 'm1'), ('a0', 'm0', 'a1', 'm1'), ('a0', 'm1'))

    Raises:
        UnknownName: neither a kind of neuron nor a part of a layer.
        GraphError: a model without MLPs, or one of which their width is not known.
    """
    kinds = "am" if arch.has_mlps else "a"
    every = [f"{kind}{layer}" for layer in range(arch.n_layers) for kind in kinds]
    named = {"mlp": "m", "heads": "a"}
    if isinstance(asked, str):
        if asked not in named:
            raise unknown("kind of neuron", asked, named)
        chosen = [name for name in every if name[0] == named[asked]]
    elif isinstance(asked, bool):
        chosen = every if asked else []
    else:
        if missing := [name for name in asked if name not in every]:
            raise unknown("part of a layer with neurons", str(missing[0]), every)
        chosen = [name for name in every if name in asked]
    if asked == "mlp" and not chosen:
        raise GraphError(f"{arch.model!r} has no MLPs, so that there are no neurons of theirs")
    if not arch.d_mlp and any(name[0] == "m" for name in chosen):
        raise GraphError(
            f"the number of hidden units of {arch.model!r} is not known: make the graph of the "
            "model itself, TensorGraph.from_model(model, neurons=...)"
        )
    return tuple(chosen)
