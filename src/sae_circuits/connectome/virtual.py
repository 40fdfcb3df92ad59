"""`virtual_weights`: decoder times encoder between the features of two dictionaries.

With W_dec[u] what a source feature adds to the stream, and r_v that along which a target feature
reads it, its norm's gain and centring included,

    W[u, v]    = W_dec[u] . r_v                       along the stream
    W_h[u, v]  = (W_dec[u] P_l) W_V[h] W_O[h] . r_v   by a head h of a layer l in between

where P_l are gain and centring of the norm before the heads. A target that reads what heads write
has the second alone, of its own layer's heads, with their share of z or of the output as what it
reads. Every scale that depends on the data counts as 1: those of norms, and those by which a
dictionary normalises its input; and so do a head's patterns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.connectome.tiles import Left, largest_of_both, side_within
from sae_circuits.errors import DictionaryError, GraphError, OptionError, UnknownName
from sae_circuits.features.asked import Features, check_k, require_features
from sae_circuits.features.effects.directions import in_stream, require_stream
from sae_circuits.graph import Architecture, SourceRecord
from sae_circuits.graph.blocks import depth_of
from sae_circuits.graph.splits import PARTS, splits_of
from sae_circuits.graph.virtual_weights import VirtualWeights
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.models.norms import Norm
from sae_circuits.provenance import provenance_of
from sae_circuits.sizes import Memory, in_bytes

MEMORY = 1 << 26
LEAST = 1 << 20

Head = tuple[int, int]


@overload
def virtual_weights(
    model: Any,
    source: Dictionary,
    target: Dictionary,
    *,
    k: int = 20,
    heads: None = None,
    features: Features = None,
    memory: Memory = MEMORY,
) -> VirtualWeights: ...
@overload
def virtual_weights(
    model: Any,
    source: Dictionary,
    target: Dictionary,
    *,
    k: int = 20,
    heads: Sequence[Head] | Literal["all"],
    features: Features = None,
    memory: Memory = MEMORY,
) -> Mapping[Head, VirtualWeights]: ...
@torch.no_grad()
def virtual_weights(
    model: Any,
    source: Any,
    target: Any,
    *,
    k: int = 20,
    heads: Any = None,
    features: Features = None,
    memory: Memory = MEMORY,
) -> VirtualWeights | Mapping[Head, VirtualWeights]:
    """Find the strongest connections between two dictionaries that their weights alone make.

        W[u, v] = W_dec[u] . W_read[v]

    or, by a head, `W_dec[u] W_V[h] W_O[h] . W_read[v]`. No data is read: of every norm on the way
    the gain and the centring count and the scale is taken as 1, as are the scales by which a
    dictionary normalises its input, and how much a head attends. Times what the source's activation
    changes by, a weight is what the target's pre-activation changes by along that path, where
    there is no norm.

    All weights are made, one tile after the other, and the strongest of each feature of both sides
    are kept. Of a dictionary that writes in several layers, those before the target, or before
    the head, add up.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        source: a dictionary of z, attn_out, mlp_out or the stream, or a transcoder.
        target: one later in the forward pass that reads the stream; or, with `heads` of its own
            layer, one of z or attn_out.
        k: how many are kept for each feature.
        heads: layers and heads, [(1, 0), (1, 3)], or "all" that lie between: one table for each.
        features: ids of the target's features, in any order; all without it.
        memory: what the work on a tile may take, such as "256MiB", 1 MiB at least. Beside it
            stand the result and, by heads, d_head numbers for each of the target's features.
            Results hang on it no more than on rounding.

    Returns:
        One table, or, by heads, one for each, in the order in which they are named.

    Raises:
        GraphError: a target that does not come after the source; heads that are not in between.
        DictionaryError: a dictionary of another model, one that writes what an MLP reads, a target
            that reads an MLP's output, or one that reads what heads write where none is named.
        UnknownName: ids that the target lacks, heads that the model lacks.
        OptionError: `k` below 1, `memory` below 1 MiB, no head.
        NumericalError: weights that are not finite.

    Reference: arXiv 2406.11944, where it is the input-independent connection of transcoders.

    >>> import sae_circuits as sc
    >>> model, saes = sc.load_model("demo"), sc.load_saes("demo", ["resid_post.0", "resid_post.2"])
    >>> sc.virtual_weights(model, *saes, k=5)
    VirtualWeights(resid_post.0 -> resid_post.2: 256 by 256 features, the 5 strongest of each)
    >>> list(sc.virtual_weights(model, *saes, k=5, heads=[(1, 3)]))
    [(1, 3)]
    """
    check_k(k)
    adapter = Adapter.of(model)
    size = in_bytes(memory, adapter.device, least=LEAST)
    require_stream(adapter, source)
    ends = Ends.of(adapter, source, target)
    ids = torch.from_numpy(np.sort(require_features(features, target.n_features)))
    paths = [ends.along_stream()] if heads is None else ends.by_heads(heads)
    found = {path.head: _table(ends, path, ids, k, size) for path in paths}
    return found[None] if heads is None else found  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Path:
    """A way from source to target: W is `left right W_enc`, and `right` the identity if None."""

    head: Head | None
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
        return Path(None, lambda some: self._seen(self._written(some, self.before)))

    def by_heads(self, heads: Sequence[Any] | str) -> Iterator[Path]:
        """The ways by some heads."""
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
        return (self._by_head(layer, head) for layer, head in dict.fromkeys(named))

    def _lies_before(self, layer: int) -> bool:
        """Whether the target sees what a layer's heads write, or is itself a part of that."""
        reads, arch = self.target.reads, self.adapter.architecture
        if reads.kind in ("z", "attn_out"):
            return layer == reads.layer
        return depth_of(arch, "head", layer, None) < self.before

    def _by_head(self, layer: int, head: int) -> Path:
        arch, adapter = self.adapter.architecture, self.adapter
        depth, norm = depth_of(arch, "head", layer, None), adapter.attn_norm(layer)
        W_V = adapter.W_in(layer, "v")
        W_V = W_V[head * len(W_V) // arch.n_heads]

        def values(some: slice) -> Float[Tensor, "some d_head"]:
            written = _through(norm, self._written(some, depth))
            return written @ W_V.to(written.dtype)

        if self.target.reads.kind == "z":
            each = torch.eye(arch.n_heads * arch.d_head, device=adapter.device, dtype=W_V.dtype)
            return Path((layer, head), values, self._seen(each.split(arch.d_head)[head]))
        return Path((layer, head), values, self._seen(adapter.W_write(layer)[head]))

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
        own = torch.promote_types(self.source.W_enc.dtype, self.target.W_enc.dtype)
        return torch.promote_types(own, torch.float32)


def _table(
    ends: Ends, path: Path, ids: Int64[Tensor, "target"], k: int, memory: int
) -> VirtualWeights:
    source, target, dtype = ends.source, ends.target, ends.dtype
    right = target.W_enc
    if len(ids) < target.n_features:
        right = right[:, ids.to(right.device)]
    if path.right is not None:
        right = path.right.to(dtype) @ right.to(path.right.device, dtype)
    width = max(ends.adapter.architecture.d_model, len(right))
    side = side_within(memory, width, dtype.itemsize)
    of, into = largest_of_both(path.left, source.n_features, right, k, side)
    of_ids = torch.where(of.ids < 0, -1, ids.to(of.ids.device)[of.ids])
    options: dict[str, Any] = {"k": k}
    if path.head is not None:
        options["head"] = "a{}.h{}".format(*path.head)
    made = provenance_of(
        ends.adapter, None, method="virtual", metric="", intervention="", options=options
    )
    return VirtualWeights(
        SourceRecord.of(source),
        SourceRecord.of(target),
        path.head,
        ids,
        into.ids,
        into.values,
        of_ids,
        of.values,
        made,
    )


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
