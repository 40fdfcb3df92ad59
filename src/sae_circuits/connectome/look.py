"""Runs in which dictionaries look at their places, and what follows from a change there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.ablation.changed_run import Place
from sae_circuits.cache.places import edited_place
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.calls import Call, one_row
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.models.hooks import hooked, hooked_input, stopped_at
from sae_circuits.tasks import Task


@dataclass(frozen=True, eq=False)
class Looked:
    """What a run shows of some dictionaries, by their names.

    Args:
        at: what stands where each writes, before anything is added.
        encoded: what the encoder of each gets.
        streams: what enters each of these layers.
        calls: how the model calls their attentions.
    """

    at: Mapping[str, Tensor]
    encoded: Mapping[str, Float[Tensor, "batch pos d_in"]]
    streams: Mapping[int, Float[Tensor, "batch pos d_model"]]
    calls: dict[int, Call]


def look(
    adapter: Adapter,
    saes: Sequence[Placed],
    batch: Task,
    *,
    grad: bool = False,
    moved: Mapping[str, Tensor] | None = None,
) -> Looked:
    """Run the model on a batch's clean prompts, up to the last layer where a dictionary stands.

    Args:
        grad: keep the graph from what enters the first layer on.
        moved: what is added at some places, in their form.
    """
    at, encoded, streams = dict[str, Tensor](), dict[str, Tensor](), dict[int, Tensor]()
    layers, home = range(max(placed.layer for placed in saes) + 1), adapter.device

    def see(name: str, is_read: bool, x: Tensor) -> Tensor | None:
        at[name], own = x, (moved or {}).get(name)
        changed = x if own is None else x + own.view_as(x)
        if is_read:
            encoded[name] = changed.flatten(2)
        return None if own is None else changed

    with ExitStack() as hooks, torch.set_grad_enabled(grad), adapter.frozen():
        calls = hooks.enter_context(adapter.calls(layers))
        start = adapter.point("blocks.0.hook_resid_pre")
        begin = lambda x: x.detach().requires_grad_(grad)  # noqa: E731
        hooks.enter_context(hooked_input(start, begin, home))
        for placed in saes:
            place = Place(adapter, placed.part, placed.layer, placed)
            if place.read is not None:
                keep = partial(encoded.__setitem__, placed.name)
                hooks.enter_context(hooked_input(place.read, keep, home))
            module, is_input = place.written
            look_at = partial(see, placed.name, place.read is None)
            hooks.enter_context((hooked_input if is_input else hooked)(module, look_at, home))
            if placed.part == "mid" and moved and place.name in moved:  # which the MLP alone sees
                passed, _ = edited_place(adapter, f"m{placed.layer}")
                carry = lambda x, own=moved[place.name]: x + own  # noqa: E731
                hooks.enter_context(hooked(passed, carry, home))
        for layer in layers:
            point = adapter.point(f"blocks.{layer}.hook_resid_pre")
            hooks.enter_context(hooked(point, partial(streams.__setitem__, layer), home))
        end = adapter.model.unembed
        if len(layers) < adapter.architecture.n_layers:  # nothing later is looked at
            end = adapter.point(f"blocks.{len(layers)}.hook_resid_pre")
        stopped_at(end, lambda: adapter.forward(batch.clean), before=True)
    return Looked(at, encoded, streams, calls)


def real_tokens(batch: Task, device: torch.device) -> Bool[Tensor, "batch pos"]:
    """Which tokens of a batch are no padding."""
    pos = torch.arange(batch.clean.shape[1], device=device)
    return pos < batch.lengths[:, None].to(device)


def read_after(
    adapter: Adapter,
    seen: Looked,
    source: Placed,
    target: Placed,
    change: Float[Tensor, "row pos width"],
) -> Float[Tensor, "row pos d_in"]:
    """What a dictionary's encoder gets when something is added where an earlier one writes.

    Layers before that are not run.

    Args:
        seen: a run on some prompts; rows are as many whole copies of these.
        change: in the form of what stands at the place.
    """
    arch, n = adapter.architecture, len(change)
    calls = {layer: one_row(call, len(seen.streams[0])) for layer, call in seen.calls.items()}
    whole = seen.at[source.name]
    changed = whole.repeat(n // len(whole), *[1] * (whole.ndim - 1))
    changed = changed + change.view_as(changed)
    first = source.layer + (source.part == "post")
    start = seen.streams.get(first)
    stream = changed if source.part in ("pre", "post") else start
    assert stream is not None
    stream = stream.repeat(n // len(stream), 1, 1)
    for layer in range(first, arch.n_layers):
        here = source.part if layer == source.layer else ""
        if (target.part, target.layer) in (("pre", layer), ("a", layer)):
            return target.read(stream, calls[layer])
        if here == "a":
            reads_z = source.dictionary.reads.kind == "z"
            out = adapter.heads_out(layer, adapter.by_head(changed)) if reads_z else changed
        else:
            out = adapter.attn_out(layer, calls[layer], stream)
        mid = changed if here == "mid" else stream + out
        reads = stream if arch.parallel else mid
        if (target.part, target.layer) in (("mid", layer), ("m", layer)):
            return target.read(mid if target.part == "mid" else reads)
        if arch.has_mlps:
            mid = mid + (changed if here == "m" else adapter.mlp(layer, reads))
        stream = mid
        if (target.part, target.layer) == ("post", layer):
            return target.read(stream)
    raise AssertionError(f"{target.name} does not come after {source.name}")
