"""The ways from one dictionary to another: along the stream, or by a head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.connectome.tiles import Left
from sae_circuits.errors import DictionaryError, GraphError, OptionError, UnknownName
from sae_circuits.features.effects.directions import in_stream
from sae_circuits.graph import Architecture
from sae_circuits.graph.blocks import depth_of
from sae_circuits.graph.splits import PARTS, splits_of
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.models.norms import Norm
from sae_circuits.precision import wide_dtype

Head = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Path:
    """A way from source to target: W is `left right W_enc`, and `right` the identity if None."""

    left: Left
    right: Float[Tensor, "width d_in"] | None = None


@dataclass(frozen=True, eq=False)
class Ends:
    """Source and target in a model.

    Args:
        after: the depth at which the source writes first.
        before: the depth at which the target, or the heads that it reads, see the stream.
    """

    adapter: Adapter
    source: Dictionary
    target: Dictionary
    after: int
    before: int

    @classmethod
    def of(cls, adapter: Adapter, source: Any, target: Any) -> Ends:
        """Refuse what has no virtual weights.

        Raises:
            DictionaryError, GraphError: see `virtual_weights`.
        """
        arch = adapter.architecture
        for one in (source, target):
            if not isinstance(one, Dictionary):
                raise DictionaryError(
                    f"{type(one).__name__} is no Dictionary: read one with load_saes(...)"
                )
            one.require_fits(arch)
            if len(one.writes) == 1:
                splits_of(arch, [one])
        if target.reads.kind == "mlp_out":
            raise DictionaryError(
                f"{target!r} reads what an MLP writes, and no weights alone join that to the "
                "stream: take a transcoder of that MLP as the target, or a dictionary of the stream"
            )
        after, before = _depths(arch, source)[0], _depth_of_reads(arch, target)
        if after >= before:
            raise GraphError(
                f"{target!r} does not come after {source!r}: name the earlier one first, and two "
                "that stand at different places"
            )
        return cls(adapter, source, target, after, before)

    def along_stream(self) -> Path:
        """The way along the stream."""
        if self.target.reads.kind in ("z", "attn_out"):
            layer = self.target.reads.layer
            raise DictionaryError(
                f"{self.target!r} reads what the heads of layer {layer} write, each along its own "
                f"way: name heads, as in heads=[({layer}, 0)], or heads='all'"
            )
        return Path(lambda some: self._seen(self._written(some, self.before)))

    def by_heads(self, heads: Sequence[Any] | str) -> Iterator[Head]:
        """Those of some heads that lie between, each once."""
        arch = self.adapter.architecture
        between = [
            layer
            for layer in range(arch.n_layers)
            if self.after < depth_of(arch, "head", layer, None) and self._lies_before(layer)
        ]
        if isinstance(heads, str) and heads != "all":
            raise OptionError(f"heads={heads!r}: give layers and heads, [(1, 0)], or 'all'")
        named = [(n, h) for n in between for h in range(arch.n_heads)]
        named = named if isinstance(heads, str) else [_read_head(arch, head) for head in heads]
        if not named:
            raise OptionError(
                f"no head lies between {self.source!r} and {self.target!r}"
                if isinstance(heads, str)
                else "no head is named: give layers and heads, [(1, 0)], or None for the stream"
            )
        for layer, head in named:
            if layer not in between:
                raise GraphError(
                    f"a{layer}.h{head} does not lie between {self.source!r} and {self.target!r}: "
                    f"heads of {_layers(between)} do"
                )
        return iter(dict.fromkeys(named))

    def _lies_before(self, layer: int) -> bool:
        """Whether the target sees what a layer's heads write, or is itself a part of that."""
        reads, arch = self.target.reads, self.adapter.architecture
        if reads.kind in ("z", "attn_out"):
            return layer == reads.layer
        return depth_of(arch, "head", layer, None) < self.before

    def by_head(self, layer: int, head: int) -> Path:
        """The way by one head."""
        arch, adapter = self.adapter.architecture, self.adapter
        depth, norm = depth_of(arch, "head", layer, None), adapter.attn_norm(layer)
        W_V = adapter.W_in(layer, "v")
        W_V = W_V[head * len(W_V) // arch.n_heads]

        def values(some: slice) -> Float[Tensor, "some d_head"]:
            written = _through(norm, self._written(some, depth))
            return written @ W_V.to(written.dtype)

        if self.target.reads.kind == "z":
            each = torch.eye(arch.n_heads * arch.d_head, device=adapter.device, dtype=W_V.dtype)
            return Path(values, self._seen(each.split(arch.d_head)[head]))
        return Path(values, self._seen(adapter.W_write(layer)[head]))

    def _written(self, some: slice, before: int) -> Float[Tensor, "some d_model"]:
        """What some source features add to the stream before a depth."""
        d, arch = self.source, self.adapter.architecture
        rows = [
            in_stream(self.adapter, site, W[some].to(self.adapter.device, self.dtype))
            for site, W, at in zip(d.writes, d.decoders, _depths(arch, d), strict=True)
            if at < before
        ]
        return rows[0] if len(rows) == 1 else torch.stack(rows).sum(0)

    def _seen(self, x: Float[Tensor, "row width"]) -> Float[Tensor, "row d_in"]:
        """What the target's encoder gets of vectors where it reads, given all scales."""
        reads, scaling = self.target.reads, self.target.scaling
        x = _through(self.adapter.norm_to(reads.kind, reads.layer), x)
        return x if scaling is None else x - scaling(x).shift

    @property
    def dtype(self) -> torch.dtype:
        """In which weights are made: single precision at least."""
        return wide_dtype(self.source.W_enc.dtype, self.target.W_enc.dtype)


def _through(norm: Norm | None, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
    """What a norm with a scale of 1 makes of changes in the stream."""
    return x if norm is None else norm.gain(norm.centre(x)).to(x.dtype)


def _depths(arch: Architecture, d: Dictionary) -> list[int]:
    """Where it writes."""
    return [depth_of(arch, "feature", site.layer, PARTS[site.kind]) for site in d.writes]


def _depth_of_reads(arch: Architecture, d: Dictionary) -> int:
    """Where its features, or the heads that they read, see the stream."""
    part = PARTS[d.reads.kind] if d.is_sae else "m"
    return depth_of(arch, "feature", d.reads.layer, part)


def _read_head(arch: Architecture, head: Any) -> Head:
    if not (isinstance(head, Sequence) and len(head) == 2 and all(type(i) is int for i in head)):
        raise OptionError(f"heads=[{head!r}, ...]: give layers and heads, [(1, 0)], or 'all'")
    layer, number = head
    if not (0 <= layer < arch.n_layers and 0 <= number < arch.n_heads):
        raise UnknownName(
            f"no head {number} in layer {layer}: {arch.model!r} has layers 0 to "
            f"{arch.n_layers - 1}, with heads 0 to {arch.n_heads - 1}"
        )
    return layer, number


def _layers(layers: Sequence[int]) -> str:
    return f"layers {', '.join(map(str, layers))}" if layers else "no layer"
