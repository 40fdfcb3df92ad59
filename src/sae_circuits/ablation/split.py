"""What the nodes of a split write in a sweep: features, skip term and error node.

A feature that reads the stream gets its own mix of it, and so its own pre-activation; the gate then
sees all of them together. The error node reads its own mix too, and gives what the whole makes of
it beyond what the features would. Features that read through heads or an MLP share what that makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.ablation.changes import Changes, Narrow
from sae_circuits.graph import Block
from sae_circuits.models.dictionaries.placed import Placed

if TYPE_CHECKING:
    from sae_circuits.ablation.sweep import Sweep

Change = Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True)
class Site:
    """Blocks of writers whose values are made together, and their ids."""

    rows: slice
    blocks: tuple[Block, ...]


@dataclass(frozen=True, eq=False)
class SplitChange:
    """What the parts of one split now write, minus what they write as a replacement."""

    sweep: Sweep
    placed: Placed
    changes: Changes

    def make(self, site: Site, alive: Int64[Tensor, "writer"]) -> None:
        """Make the changes of some of its writers."""
        start = site.rows.start
        for block in site.blocks:
            own = alive[(alive >= start) & (alive < start + len(block))]
            which, start = (own - start).to(self.sweep.start.device), start + len(block)
            if not len(own):
                continue
            if block.kind == "feature":
                dtype = self.sweep.start.dtype
                a = self.features.flatten(0, 1)[:, which].to(dtype)
                self.changes.narrow.append(Narrow(own, a, self.placed.W_dec[which].to(dtype)))
            else:
                change = self.skip if block.kind == "skip" else self.rest
                self.changes.rows(own)[0] = change.flatten(0, 1)

    @cached_property
    def features(self) -> Float[Tensor, "batch pos feature"]:
        """The change of the features' coefficients."""
        placed, replaced = self.placed, self._replaced(".f")
        if placed.split.reads_stream:
            return placed.gated(self._pre(), lambda: placed.read(self._read_by("error"))) - replaced
        if placed.part == "a":
            return placed.from_heads(self._whole) - replaced
        return placed.coefficients(self._whole) - replaced

    @cached_property
    def rest(self) -> Change:
        """The change of what the error node writes."""
        placed = self.placed
        if placed.split.reads_stream:
            then = self._replaced("") - self._decoded(self._replaced(".f"))
            if placed.dictionary.has_skip:
                then = then - self._replaced(".skip")
            return placed.rest(self._read_by("error")) - then
        whole, layer, adapter = self._whole, placed.layer, placed.adapter
        if placed.part == "a":
            scale = adapter.attn_out_scale(layer, whole)
            change = whole / scale[..., None] - self._replaced("")
            change = torch.einsum("bphk,hkd->bpd", change, adapter.W_write(layer))
        else:
            change = whole - self._replaced("")
        return change - self._decoded(self.features) if len(placed.chosen) else change

    @cached_property
    def skip(self) -> Change:
        """The change of the skip term."""
        placed = self.placed
        return placed.skip(placed.read(self._read_by("skip"))) - self._replaced(".skip")

    # -- parts ---------------------------------------------------------------------------------

    @cached_property
    def _whole(self) -> Tensor:
        """What heads (z) or the MLP now give, whose features are read off it."""
        layer = self.placed.layer
        if self.placed.part == "a":
            return self.sweep.z(layer, self.changes)
        (_, reader) = self.sweep.graph.dest_starts["mlp", layer, None, None]
        return self.placed.adapter.mlp(layer, self.sweep.stream(reader, self.changes))

    def _pre(self) -> Float[Tensor, "batch pos feature"]:
        """Each chosen feature's pre-activation, from its own mix of the stream."""
        placed, shape = self.placed, self.sweep.start.shape
        key = ("feature", placed.layer, None, placed.part)
        start, block = self.sweep.graph.dest_starts[key]  # type: ignore[index]
        pre = placed.pre(placed.read(self.sweep.base[block.depth])).clone()
        dests = self.changes.plan.changed(slice(start, start + len(block)))
        if not len(dests):
            return pre
        which = dests - start
        if placed.norm is None:
            change = self.changes.projected(dests, placed.W_read[which.to(pre.device)])
            pre[..., which.to(pre.device)] += change.unflatten(0, shape[:2])
            return pre
        streams = self.changes.streams(dests, self.sweep.base[block.depth].flatten(0, 1))
        found = [placed.pre_each(which, placed.read(stream)) for stream in streams]
        pre[..., which.to(pre.device)] = torch.cat(found).unflatten(0, shape[:2])
        return pre

    def _read_by(self, kind: str) -> Float[Tensor, "batch pos d_model"]:
        """The stream that the error node or the skip term gets."""
        key = (kind, self.placed.layer, None, self.placed.part)
        reader = self.sweep.graph.dest_starts[key][1]  # type: ignore[index]
        return self.sweep.stream(reader, self.changes)

    def _replaced(self, suffix: str) -> Tensor:
        name = f"{self.placed.name}{suffix}"
        if suffix == ".f" and not len(self.placed.chosen):
            return self.sweep.start.new_zeros(*self.sweep.start.shape[:2], 0)
        return self.sweep.replacement[name]

    def _decoded(self, a: Float[Tensor, "batch pos feature"]) -> Change:
        return a.to(self.placed.W_dec.dtype) @ self.placed.W_dec
