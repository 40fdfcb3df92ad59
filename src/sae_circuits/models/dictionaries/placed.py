"""A dictionary in its place in a model: what its features add to the stream, and how they read it.

A feature writes its coefficient (its activation, times what the place scales it by) along a row of
`W_dec`, as a head writes z along `W_O`. A feature that reads the stream reads it along a column of
`W_enc`, through the norm where there is one, and its gate is the derivative; or it reads, along
that column, what heads or an MLP make of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import DictionaryError
from sae_circuits.graph import Part, Split, TensorGraph, depth_of
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.calls import Call
from sae_circuits.models.dictionaries.dictionary import Dictionary
from sae_circuits.models.norms import Norm


@dataclass(frozen=True, eq=False)
class Placed:
    """A dictionary at a split of a graph, with the features that are nodes there.

    Args:
        dictionary: with all features, or with the chosen ones where they do not compete.
        chosen: their ids, ascending; all others belong to the error node.
    """

    adapter: Adapter
    split: Split
    dictionary: Dictionary
    chosen: Sequence[int]

    @classmethod
    def all_of(cls, adapter: Adapter, graph: TensorGraph) -> tuple[Placed, ...]:
        """The dictionaries of a graph, in the order of the forward pass.

        Raises:
            DictionaryError: on another device than the model.
            GraphError: a graph without its dictionaries.
        """
        from sae_circuits.models.dictionaries.neurons import PlacedNeurons

        placed: list[Placed] = []
        for split in graph.splits.values():
            if split.kind == "neuron":
                own = cast("Dictionary", split.dictionary)  # of which they need sizes alone
                placed.append(PlacedNeurons(adapter, split, own, graph.chosen(split)))
                continue
            dictionary = cast("Dictionary", split.dictionary)
            here = dictionary.W_enc.device
            if here != adapter.device:
                raise DictionaryError(
                    f"{dictionary!r} is on {here} and the model on {adapter.device}: load it "
                    f"there, with load_saes(..., device={str(adapter.device)!r})"
                )
            dtype = torch.promote_types(dictionary.W_enc.dtype, adapter.dtype)
            chosen = graph.chosen(split)
            if len(chosen) < dictionary.n_features and not dictionary.competes:
                dictionary = dictionary.only(chosen)
            if dictionary.W_enc.dtype != dtype:
                dictionary = dictionary.to(here, dtype)
            placed.append(cls(adapter, split, dictionary, chosen))
        arch = graph.architecture
        return tuple(sorted(placed, key=lambda p: depth_of(arch, "feature", p.layer, p.part)))

    # -- what it is ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What its nodes' names begin with, such as `m3`."""
        return self.split.name

    @property
    def layer(self) -> int:
        """Of the model."""
        return self.split.layer

    @property
    def part(self) -> Part:
        """Which part of the layer it splits."""
        return self.split.part

    @property
    def is_transcoder(self) -> bool:
        """Whether it reads elsewhere than it writes."""
        return not self.dictionary.is_sae

    @property
    def is_linear(self) -> bool:
        """Whether each feature reads the stream along one direction, given the norm's scale."""
        return not self.split.through and self.dictionary.scaling is None

    @cached_property
    def columns(self) -> slice | Tensor:
        """An index of the chosen features in the dictionary, which copies nothing for all."""
        if len(self.chosen) == self.dictionary.n_features:
            return slice(None)
        return torch.tensor(list(self.chosen), dtype=torch.int64, device=self.adapter.device)

    def column(self, feature: int) -> int:
        """Where the dictionary here, which may have the chosen features only, has one of them."""
        is_whole = len(self.chosen) < self.dictionary.n_features
        return feature if is_whole else self.chosen.index(feature)

    @cached_property
    def W_dec(self) -> Float[Tensor, "feature d_model"]:
        """What each chosen feature adds to the stream per unit of its coefficient."""
        W = self.dictionary.W_dec[self.columns]
        if self.dictionary.writes[0].kind != "z":
            return W
        heads = self.adapter.W_write(self.layer).to(W.dtype)
        return torch.einsum("fhk,hkd->fd", W.unflatten(1, heads.shape[:2]), heads)

    @cached_property
    def W_enc(self) -> Float[Tensor, "d_model feature"]:
        """Along what the chosen features read."""
        return self.dictionary.W_enc[:, self.columns]

    @cached_property
    def norm(self) -> Norm | None:
        """The norm between the stream and the features that read it."""
        if not self.is_transcoder:
            return None
        return self.adapter.norm_to(self.dictionary.reads.kind, self.layer)

    @cached_property
    def W_read(self) -> Float[Tensor, "feature d_model"]:
        """Along what they read the stream before the norm, given its scale: P (w * W_enc)."""
        W = self.W_enc.T
        return W if self.norm is None else self.norm.centre(self.norm.gain(W))

    # -- running -------------------------------------------------------------------------------

    def read(
        self, stream: Float[Tensor, "*row pos d_model"], call: Call | None = None
    ) -> Float[Tensor, "*row pos d_in"]:
        """What the encoder gets when its features read this stream.

        Args:
            call: how the model calls the layer's attention, where the features read through it.
        """
        if not self.split.through:
            read = stream if self.norm is None else self.norm(stream)  # in the model's dtype
        elif self.part == "m":
            read = self.adapter.mlp(self.layer, stream)
        else:
            assert call is not None
            read = self.of_heads(self.adapter.z(self.layer, call, stream))
        return read.to(self.dictionary.W_enc.dtype)

    def of_mlp(
        self, stream: Float[Tensor, "batch pos d_model"]
    ) -> tuple[Float[Tensor, "batch pos d_in"], Float[Tensor, "batch pos d_model"]]:
        """What the encoder gets of a layer's MLP that reads this stream, and what it writes."""
        out = self.adapter.mlp(self.layer, stream)
        return out, out

    def of_heads(self, z: Float[Tensor, "*token head d_head"]) -> Float[Tensor, "*token d_in"]:
        """What the encoder gets, where it splits what a layer's heads write."""
        return z.flatten(-2) if self._reads_z else self.adapter.heads_out(self.layer, z)

    @property
    def _reads_z(self) -> bool:
        return self.dictionary.reads.kind == "z"

    def coefficients(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token feature"]:
        """How much of its row of `W_dec` each chosen feature adds to the stream.

        Args:
            x: what the encoder gets.
        """
        f, factor = self.dictionary.encode(x)[..., self.columns], self.factor(x)
        return f if factor is None else f * factor

    def factor(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token 1"] | None:
        """What its place multiplies activations by: an output's scaling, over a post-norm's scale.

        Args:
            x: what the encoder gets.
        """
        own = self.dictionary.scale(x) if self.dictionary.is_sae else None
        factor = None if own is None else own.multiply
        if not self._reads_z or self.adapter.attn_post_norm(self.layer) is None:
            return factor
        scale = self.adapter.attn_out_scale(self.layer, self._by_head(x)).to(x.dtype)
        return 1 / scale if factor is None else factor / scale

    def _by_head(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token head d_head"]:
        """z in the model's dtype, from what the encoder gets of it."""
        W_O = self.adapter.W_O(self.layer)
        return x.unflatten(-1, W_O.shape[:2]).to(W_O.dtype)

    def pre(self, read: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token feature"]:
        """The chosen features' pre-activations, from what the encoder gets."""
        return self.dictionary.pre_activation(read)[..., self.columns]

    def pre_each(
        self, which: Tensor, read: Float[Tensor, "some *token d_in"]
    ) -> Float[Tensor, "*token some"]:
        """Pre-activations of some chosen features, each from what its own encoder gets."""
        d, columns = self.dictionary, torch.arange(self.dictionary.n_features)[self._index][which]
        scale = d.scale(read)
        x = read if scale is None else (read - scale.shift) / scale.divide
        x = x if d.b_in is None else x - d.b_in
        return torch.einsum("f...d,df->...f", x, d.W_enc[:, columns]) + d.b_enc[columns]

    def factor_each(
        self, read: Float[Tensor, "some *token d_in"]
    ) -> Float[Tensor, "*token some"] | None:
        """What activations are multiplied by, each from what its own encoder gets."""
        factor = self.factor(read)
        return None if factor is None else factor[..., 0].movedim(0, -1)

    @property
    def _index(self) -> slice | Tensor:
        return self.columns if isinstance(self.columns, slice) else self.columns.cpu()

    def gated(
        self,
        pre: Float[Tensor, "*token feature"],
        others: Callable[[], Float[Tensor, "*token d_in"]],
    ) -> Float[Tensor, "*token feature"]:
        """Activations when each chosen feature has this pre-activation.

        The gate sees all pre-activations of a token together: features that compete for being
        among the largest compete with what the others then are.

        Args:
            others: what the encoder gets for the features that are not chosen.
        """
        if isinstance(self.columns, slice):
            return pre * self.dictionary.gate(pre)
        every = self.dictionary.pre_activation(others()).index_copy(-1, self.columns, pre)
        return pre * self.dictionary.gate(every)[..., self.columns]

    def rest(
        self, stream: Float[Tensor, "batch pos d_model"], call: Call | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the error node writes when it reads this stream: the whole minus all else."""
        read = self.read(stream, call)
        rest = self._whole(stream, read) - self.coefficients(read) @ self.W_dec
        return rest - self.skip(read) if self.dictionary.has_skip else rest

    def _whole(
        self, stream: Float[Tensor, "batch pos d_model"], read: Float[Tensor, "batch pos d_in"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """What is split, when this stream is read and the encoder gets that."""
        if self.is_transcoder:
            return self.adapter.mlp(self.layer, stream)
        if not self.split.through:
            return stream
        if self.part == "m":
            return read
        if not self._reads_z:
            constant = self.adapter.constant(self.layer)
            return read if constant is None else read - constant
        z = self._by_head(read)
        z = z / self.adapter.attn_out_scale(self.layer, z)[..., None]
        return torch.einsum("bphk,hkd->bpd", z, self.adapter.W_write(self.layer))

    def skip(self, read: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token d_model"]:
        """What passes the features by, from what the encoder gets."""
        W = self.dictionary.W_skip
        assert W is not None  # there is a skip term in the graph only where there is one here
        return read.to(W.dtype) @ W
