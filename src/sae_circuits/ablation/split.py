"""What the nodes of a split write in a sweep: features, skip term and error node.

A feature that reads the stream gets its own mix of it, and so its own pre-activation; the gate then
sees all of them together. The error node reads its own mix too, and gives what the whole makes of
it beyond what the features would. So does a feature that reads through heads or an MLP (see
`TensorGraph.from_model(..., through=True)`), by a copy of them; else such features share what their
heads or their MLP make of what those read.
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
from sae_circuits.models.calls import Call, one_row
from sae_circuits.models.dictionaries.placed import Placed

if TYPE_CHECKING:
    from sae_circuits.ablation.sweep import Sweep

COPY_BYTES = 64 << 20  # of streams that features read through one layer's heads at a time
Change = Float[Tensor, "batch pos d_model"]
Each = tuple[Float[Tensor, "batch pos some"], Float[Tensor, "batch pos some"] | None]


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
            if block.is_narrow:
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
            pre, factor = self._each()
            a = placed.gated(pre, lambda: placed.read(self._read_by("error"), self._call))
            return (a if factor is None else a * factor) - replaced
        return placed.coefficients(self._parted[0]) - replaced

    @cached_property
    def rest(self) -> Change:
        """The change of what the error node writes."""
        placed = self.placed
        if placed.split.reads_stream:
            then = self._written(self._replaced("")) - self._decoded(self._replaced(".f"))
            if placed.dictionary.has_skip:
                then = then - self._replaced(".skip")
            return placed.rest(self._read_by("error"), self._call) - then
        whole = self._parted[1]
        if placed.part == "a":
            whole = whole / placed.adapter.attn_out_scale(placed.layer, whole)[..., None]
        change = self._written(whole - self._replaced(""))
        return change - self._decoded(self.features) if len(placed.chosen) else change

    @cached_property
    def skip(self) -> Change:
        """The change of the skip term."""
        placed = self.placed
        return placed.skip(placed.read(self._read_by("skip"))) - self._replaced(".skip")

    # -- parts ---------------------------------------------------------------------------------

    @cached_property
    def _parted(self) -> tuple[Tensor, Tensor]:
        """What features or neurons are read off, and what heads (z) or the MLP now give."""
        layer = self.placed.layer
        if self.placed.part == "a":
            z = self.sweep.z(layer, self.changes)
            return self.placed.of_heads(z), z
        (_, reader) = self.sweep.graph.dest_starts["mlp", layer, None, None]
        return self.placed.of_mlp(self.sweep.stream(reader, self.changes))

    @property
    def _call(self) -> Call | None:
        return self.sweep.calls[self.placed.layer] if self.placed.part == "a" else None

    def _written(self, whole: Tensor) -> Change:
        """What is split at the width of the stream, where heads give z."""
        if self.placed.part != "a":
            return whole
        W = self.placed.adapter.W_write(self.placed.layer)
        return torch.einsum("bphk,hkd->bpd", whole, W)

    def _each(self) -> tuple[Float[Tensor, "batch pos feature"], Tensor | None]:
        """Each chosen feature's pre-activation, from its own mix of the stream, and its factor."""
        placed, shape = self.placed, self.sweep.start.shape
        key = ("feature", placed.layer, None, placed.part)
        start, block = self.sweep.graph.dest_starts[key]  # type: ignore[index]
        base = self.sweep.base[block.depth]
        pre, factor = self.sweep.base_features(placed, block)
        dests = self.changes.plan.changed(slice(start, start + len(block)))
        if not len(dests):
            return pre, factor
        pre, factor = pre.clone(), None if factor is None else factor.expand_as(pre).clone()
        which = (dests - start).to(pre.device)
        if placed.is_linear and placed.norm is None:
            change = self.changes.projected(dests, placed.W_read[which])
            pre[..., which] += change.unflatten(0, shape[:2]).to(pre.dtype)
            return pre, factor
        own = self._by_heads if placed.part == "a" else self._by_token
        found, scaled = own(dests, which, base.flatten(0, 1))
        pre[..., which] = found
        if factor is not None and scaled is not None:
            factor[..., which] = scaled
        return pre, factor

    def _by_token(self, dests: Tensor, which: Tensor, base: Tensor) -> Each:
        """Pre-activations and factors of features that read each token by itself."""
        placed, shape = self.placed, self.sweep.start.shape[:2]
        pres, factors = [], list[Tensor | None]()
        for stream in self.changes.streams(dests, base):
            read = placed.read(stream.contiguous())  # some models view what they read
            pres.append(placed.pre_each(which, read))
            factors.append(placed.factor_each(read))
        pre, factor = torch.cat(pres).unflatten(0, shape), _joined(factors, 0)
        return pre, None if factor is None else factor.unflatten(0, shape)

    def _by_heads(self, dests: Tensor, which: Tensor, base: Tensor) -> Each:
        """The same of features that read through heads, each of which gets its own prompts."""
        placed, shape = self.placed, self.sweep.start.shape
        pres, factors = [], list[Tensor | None]()
        call = one_row(self.sweep.calls[placed.layer], shape[0])
        at_once = max(1, COPY_BYTES // (base.numel() * base.element_size()))
        for some, own in zip(dests.split(at_once), which.split(at_once), strict=True):
            mixed = [stream.clone() for stream in self.changes.streams(some, base)]
            copies = torch.cat(mixed, 1).unflatten(1, shape[:2]).flatten(0, 1)
            read = placed.read(copies, call).unflatten(0, (len(some), -1))
            pres.append(placed.pre_each(own, read))
            factors.append(placed.factor_each(read))
        return torch.cat(pres, -1), _joined(factors, -1)

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


def _joined(parts: list[Tensor | None], dim: int) -> Tensor | None:
    """Parts side by side, where there are any."""
    found = [part for part in parts if part is not None]
    return torch.cat(found, dim) if found else None
