"""A run of the model in which what some nodes write is changed, and all that follows recomputed.

Where a node writes stands x, in this very run. With f(x) the features that a dictionary reads there
(a transcoder reads them at its own input), f' what the changes make of them, and W_dec its decoder,

    x' = x + (f' - f(x)) W_dec + sum over scaled parts p of x of (factor_p - 1) p

So the error node and the features that are not changed keep what they write, and what comes later
sees x'. Neurons are changed where they stand, before W_out or W_O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae_circuits.ablation.steering import Step
from sae_circuits.cache.places import edited_place, stream_place
from sae_circuits.graph import Node
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.models.hooks import hooked, hooked_input, stopped_at
from sae_circuits.tasks import Task

Edit = Callable[[Tensor, Tensor], Tensor | None]
"""What is added to what stands at a place, from that and from what the encoder gets there."""

_ALONG = ("pre", "a", "mid", "m", "post")  # a layer's places, in the order of the forward pass


class Outcome(NamedTuple):
    """What is kept of a run: logits at the answer positions, and activations of watched features.

    `patterns` are the queries and keys that make the attention patterns, by their hook points.
    """

    logits: Float[Tensor, "batch vocab"]
    activations: dict[Node, Float[Tensor, "batch pos"]]
    patterns: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Place:
    """A place where nodes write, with what is changed and watched there.

    Args:
        part: "a" for a layer's heads, "m" for its MLP, a place in the stream, or "input".
        placed: the dictionary that takes it apart, if its features are concerned.
        watched: features whose activations are kept, as they are after the changes.
    """

    adapter: Adapter
    part: str
    layer: int
    placed: Placed | None
    steps: tuple[Step, ...] = ()
    watched: tuple[Node, ...] = ()

    @classmethod
    def all_of(
        cls,
        adapter: Adapter,
        saes: Sequence[Placed],
        steps: Sequence[Step],
        watched: Sequence[Node],
    ) -> tuple[Place, ...]:
        """The places of changes and watched features, in the order of the forward pass."""
        of = {(placed.part, placed.layer): placed for placed in saes}
        keys = dict.fromkeys([*(_key(step.node) for step in steps), *map(_key, watched)])
        return tuple(
            cls(
                adapter,
                part,
                layer,
                of.get((part, layer)),  # type: ignore[arg-type]  # "input" is none of the parts
                tuple(step for step in steps if _key(step.node) == (part, layer)),
                tuple(node for node in watched if _key(node) == (part, layer)),
            )
            for part, layer in sorted(keys, key=_order)
        )

    # -- where it is -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Such as `m3`."""
        return self.part if self.part == "input" else f"{self.part}{self.layer}"

    @property
    def written(self) -> tuple[nn.Module, bool]:
        """The module where the nodes' sum stands, and whether as its input."""
        if self.part == "input":
            return stream_place(self.adapter, "pre", 0), True
        if self.part == "a" and (self.placed is None or self.placed.dictionary.reads.kind == "z"):
            return self.adapter.point(f"blocks.{self.layer}.attn.hook_z"), False
        if self._has_neurons:
            return self.adapter.point(f"blocks.{self.layer}.mlp.hook_post"), False
        return edited_place(self.adapter, self.name)

    @property
    def read(self) -> nn.Module | None:
        """The module whose input the encoder gets, where it is not what stands at the place."""
        if self.placed is None or not self.placed.is_transcoder:
            return None
        reads = self.placed.dictionary.reads.kind
        if reads.startswith("mlp"):
            return self.adapter.normed_place(reads, self.layer)
        return stream_place(self.adapter, "mid", self.layer)

    # -- what happens there ------------------------------------------------------------------

    def change(
        self,
        x: Float[Tensor, "batch pos width"],
        encoded: Float[Tensor, "batch pos d_in"],
        real: Bool[Tensor, "batch pos"],
        activations: dict[Node, Tensor],
    ) -> Float[Tensor, "batch pos width"] | None:
        """What the changes add to what stands here; None where nothing is changed.

        Args:
            x: what stands here; of z, the heads joined.
            encoded: what the encoder gets.
            real: which tokens are no padding.
            activations: takes up those of the watched features.
        """
        f = None
        if self.placed is not None:
            f = x if self._has_neurons else self.placed.dictionary.encode(encoded)
        steps: dict[Node, list[Step]] = {node: [] for node in self.watched}
        for step in self.steps:
            steps.setdefault(step.node, []).append(step)
        moved: dict[int, Tensor] = {}
        added = torch.zeros_like(x)
        for node, own in steps.items():
            scalar = node.kind in ("feature", "neuron")
            if scalar and node.index is not None and self.placed is not None and f is not None:
                own_index = node.index + (node.head or 0) * self.adapter.architecture.d_head
                index = self.placed.column(own_index)
                now = f[..., index]
                then = _after(own, now, real)
                moved |= {index: then - now} if own else {}
                if node in self.watched:
                    activations[node] = then.masked_fill(~real, 0)
            else:
                factor = _after(own, x.new_ones(x.shape[:2]), real)[..., None]
                added += (factor - 1) * self._part(node, x, encoded, f)
        if moved:
            added += self._decoded(torch.stack(list(moved.values()), -1), list(moved), encoded)
        return added if self.steps else None

    @property
    def _has_neurons(self) -> bool:
        return self.placed is not None and self.placed.split.kind == "neuron"

    def _part(self, node: Node, x: Tensor, encoded: Tensor, f: Tensor | None) -> Tensor:
        """What a node that is no feature writes here."""
        if node.kind == "head":
            d_head = self.adapter.architecture.d_head
            return x * (torch.arange(x.shape[-1], device=x.device) // d_head == node.index)
        if self.placed is None or f is None:
            return x  # the input or an MLP
        if node.kind == "skip":
            return self.placed.skip(encoded)
        columns = self.placed.columns
        rest = x - self._decoded(f[..., columns], columns, encoded)
        if self.placed.dictionary.has_skip:
            rest = rest - self.placed.skip(encoded)
        if self.placed.dictionary.reads.kind == "attn_out":
            constant = self.adapter.constant(self.layer)
            rest = rest if constant is None else rest - constant
        return rest

    def _decoded(
        self,
        a: Float[Tensor, "batch pos some"],
        which: list[int] | slice | Tensor,
        encoded: Float[Tensor, "batch pos d_in"],
    ) -> Float[Tensor, "batch pos width"]:
        """What some features write here with these activations."""
        assert self.placed is not None  # only a dictionary has features
        if self._has_neurons:
            out = torch.zeros_like(encoded)
            out[..., which] = a
            return out
        dictionary = self.placed.dictionary
        out = a @ dictionary.W_dec[which]
        scale = dictionary.scale(encoded.to(out.dtype)) if dictionary.is_sae else None
        return out if scale is None else out * scale.multiply


def _after(
    steps: Sequence[Step], a: Float[Tensor, "batch pos"], real: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos"]:
    """An activation after changes that follow one another."""
    for step in steps:
        a = step(a, real)
    return a


def changed_run(
    adapter: Adapter,
    batch: Task,
    places: Sequence[Place],
    *,
    patterns: Mapping[str, Tensor] | None = None,
    keep_patterns: bool = False,
) -> Outcome:
    """Run the model once on the clean prompts, with what is changed at some places.

    Args:
        patterns: queries and keys of another run, which make its attention patterns here too.
        keep_patterns: keep this run's.
    """
    activations: dict[Node, Tensor] = {}
    found: dict[str, Tensor] = {}
    home = adapter.device
    with ExitStack() as hooks, torch.no_grad():
        for name, value in (patterns or {}).items():
            hooks.enter_context(hooked(adapter.point(name), lambda _, value=value: value, home))
        hooks.enter_context(changing(adapter, batch, places, activations))
        if keep_patterns:
            for name in _pattern_points(adapter):
                keep = partial(found.__setitem__, name)
                hooks.enter_context(hooked(adapter.point(name), keep, home))
        end, forward = adapter.model.unembed, lambda: adapter.forward(batch.clean)
        read = stopped_at(end, forward, before=True, home=home)
        rows = torch.arange(len(batch), device=home)
        logits = adapter.unembed(read[rows, batch.position.to(home)])
    return Outcome(logits, activations, found)


@contextmanager
def changing(
    adapter: Adapter, batch: Task, places: Sequence[Place], activations: dict[Node, Tensor]
) -> Iterator[None]:
    """Inside, a run on a batch's clean prompts has what is changed at some places.

    Args:
        activations: takes up those of the watched features.
    """
    kept: dict[str, Tensor] = {}
    pos = torch.arange(batch.clean.shape[1], device=adapter.device)
    real = pos < batch.lengths[:, None].to(adapter.device)
    with ExitStack() as hooks:
        for place in places:
            change = partial(place.change, real=real, activations=activations)
            hooks.enter_context(_changed(place, change, kept))
        for place in places:
            if place.part == "mid" and place.steps:
                hooks.enter_context(_carried(place, kept))
        yield


@contextmanager
def editing(place: Place, edit: Edit) -> Iterator[None]:
    """Inside, every run of the model has what is added at a place.

    Args:
        edit: which always gives something to add.
    """
    kept: dict[str, Tensor] = {}
    with _changed(place, edit, kept), ExitStack() as hooks:
        if place.part == "mid":
            hooks.enter_context(_carried(place, kept))
        yield


@contextmanager
def _changed(place: Place, edit: Edit, kept: dict[str, Tensor]) -> Iterator[None]:
    """Inside, what stands at a place is changed."""

    def keep(x: Tensor) -> None:
        kept[f"{place.name} reads"] = x

    def see(x: Tensor) -> Tensor | None:
        flat = x.flatten(2)  # a model may keep the heads of z apart
        added = edit(flat, kept.get(f"{place.name} reads", flat))
        if added is None:
            return None
        kept[place.name] = added
        return x + added.view_as(x)

    (module, is_input), home = place.written, place.adapter.device
    with ExitStack() as hooks:
        if place.read is not None:
            hooks.enter_context(hooked_input(place.read, keep, home))
        hooks.enter_context((hooked_input if is_input else hooked)(module, see, home))
        yield


@contextmanager
def _carried(place: Place, kept: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, a change of the stream before an MLP, which only the MLP sees, passes by it too."""
    module, _ = edited_place(place.adapter, f"m{place.layer}")
    with hooked(module, lambda x: x + kept[place.name], place.adapter.device):
        yield


def _pattern_points(adapter: Adapter) -> list[str]:
    layers = range(adapter.architecture.n_layers)
    return [adapter.port_name(layer, port) for layer in layers for port in "qk"]


def _key(node: Node) -> tuple[str, int]:
    """The part and layer where a node writes."""
    if node.layer is None:
        return "input", 0
    return node.site or ("m" if node.kind == "mlp" else "a"), node.layer


def _order(key: tuple[str, int]) -> tuple[int, int]:
    part, layer = key
    return layer, -1 if part == "input" else _ALONG.index(part)
