"""The rest of a forward pass, from some layer's stream to the logits of one position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.models.adapter import Adapter
from sae_circuits.models.calls import Call


@dataclass(frozen=True, eq=False)
class Tail:
    """Runs a model's layers one by one on streams of any number of rows.

    Args:
        calls: how the model calls its attentions, for any number of rows (see `one_row`).
        position: whose logits to read. Rows come in whole multiples of these examples.
    """

    adapter: Adapter
    calls: dict[int, Call]
    position: Int64[Tensor, "batch"]

    def from_layer(
        self, layer: int, stream: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "row vocab"]:
        """The logits when this stream enters a layer."""
        for later in range(layer, self.adapter.architecture.n_layers):
            out = self.adapter.attn_out(later, self.calls[later], stream)
            stream = self.add_layer(later, stream, out)
        return self.from_final(stream)

    def after(
        self, part: str, layer: int, stream: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "row vocab"]:
        """The logits when this is the stream before ("pre"), in the middle of or after a layer."""
        if part == "mid":
            return self.from_layer(layer + 1, stream + self.adapter.mlp(layer, stream))
        return self.from_layer(layer if part == "pre" else layer + 1, stream)

    def from_heads(
        self,
        layer: int,
        stream: Float[Tensor, "row pos d_model"],
        z: Float[Tensor, "row pos head d_head"],
    ) -> Float[Tensor, "row vocab"]:
        """The logits when this stream enters a layer and its heads give this z."""
        out = self.adapter.heads_out(layer, z)
        return self.from_layer(layer + 1, self.add_layer(layer, stream, out))

    def from_final(self, stream: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row vocab"]:
        """The logits when the unembedding reads this stream."""
        position = self.position.repeat(len(stream) // len(self.position))
        rows = torch.arange(len(stream), device=stream.device)
        return self.adapter.logits(stream[rows, position])

    def add_layer(
        self,
        layer: int,
        stream: Float[Tensor, "row pos d_model"],
        attn_out: Float[Tensor, "row pos d_model"],
    ) -> Float[Tensor, "row pos d_model"]:
        """The stream after a layer whose attention adds this."""
        arch = self.adapter.architecture
        after = stream + attn_out
        if not arch.has_mlps:
            return after
        return after + self.adapter.mlp(layer, stream if arch.parallel else after)
