"""Heads and MLPs as ends of connections: all that they write, set at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.sparse import ActivePlaced
from sae_circuits.errors import GraphError
from sae_circuits.graph import Node, TensorGraph, depth_of, parse_node
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.gates import identity


@dataclass(frozen=True, eq=False)
class Component(ActivePlaced):
    """A layer's heads or its MLP, seen as the coordinates of what they write.

    The coordinates stand as features whose directions are the axes, so that all that holds of
    features holds of them; a head is a run of them, and an MLP all.

    Args:
        members: names of nodes.
        runs: of each, its coordinates.
    """

    members: tuple[str, ...] = ()
    runs: tuple[range, ...] = ()

    @property
    def name(self) -> str:
        """Another one than that of a dictionary at this place, such as "a3 whole"."""
        return f"{self.split.name} whole"

    @cached_property
    def masks(self) -> Float[Tensor, "member width"]:
        """1 where a coordinate is a member's."""
        masks = self.dictionary.W_enc.new_zeros(len(self.runs), self.dictionary.n_features)
        for mask, run in zip(masks, self.runs, strict=True):
            mask[run.start : run.stop] = 1
        return masks

    def by_member(
        self, u: Int64[Tensor, "u"], values: Float[Tensor, "v u"]
    ) -> Float[Tensor, "v member"]:
        """Sums over each member's coordinates."""
        return values @ self.masks[:, u].to(values.dtype).T


def components_of(
    adapter: Adapter, asked: Sequence[Node | str] | str, before: int
) -> list[Component]:
    """The components that are asked for, by layer.

    Args:
        asked: heads and MLPs, such as "a0.h3" and "m1"; or "all".
        before: the depth at which the target reads.

    Raises:
        GraphError: no such component of this model, or one that does not write before that.
    """
    arch = adapter.architecture
    graph = TensorGraph.from_model(adapter.model)
    known = {
        node.name: node
        for node in graph.src_nodes
        if node.kind in ("head", "mlp")
        and depth_of(arch, node.kind, node.layer, node.site) < before
    }
    if isinstance(asked, str):
        if asked != "all":
            raise GraphError(f"components={asked!r}: give names, ['a0.h3', 'm1'], or 'all'")
        names: Iterable[str] = known
    else:
        names = [parse_node(one).name if isinstance(one, str) else one.name for one in asked]
    by_place: dict[tuple[str, int], list[Node]] = {}
    for name in dict.fromkeys(names):
        if name not in known:
            listed = ", ".join([*known][:6]) + (", ..." if len(known) > 6 else "")
            raise GraphError(
                f"{name!r} is no head or MLP that writes before the target reads; these do: "
                f"{listed or 'none'}"
            )
        node = known[name]
        assert node.layer is not None
        by_place.setdefault(("a" if node.kind == "head" else "m", node.layer), []).append(node)
    return [_component(adapter, part, layer, own) for (part, layer), own in by_place.items()]


def _component(adapter: Adapter, part: str, layer: int, nodes: Sequence[Node]) -> Component:
    arch = adapter.architecture
    site = Site("z" if part == "a" else "mlp_out", layer)
    width, W = site.width(arch), adapter.W_O(layer)
    axes = torch.eye(width, dtype=W.dtype, device=W.device)
    zero = axes.new_zeros(width)
    whole = Dictionary(site.name, site, (site,), axes, zero, (axes,), zero, identity)
    (placed,) = ActivePlaced.all_of(
        adapter, TensorGraph.from_model(adapter.model, saes=[whole], through=True)
    )
    runs = [
        range(width)
        if node.index is None
        else range(node.index * arch.d_head, (node.index + 1) * arch.d_head)
        for node in nodes
    ]
    names = tuple(node.name for node in nodes)
    return Component(adapter, placed.split, placed.dictionary, placed.chosen, names, tuple(runs))
