"""The local replacement model: one run in which only what is linear still moves.

With attention patterns and the scales of all norms held at their values in the run, every layer is
an affine map of the stream, and an MLP is the sum of its transcoder's active features and an error:

    x   <- x + sum_h pattern_h (P(x) w / s + b) W_V[h] W_O[h] + b_O
    x   <- x + sum_f a_f W_dec[f] + error + b_dec (+ read(x) W_skip)

where P removes the mean if the norm does. Here the weights are kept with gains and centring folded
in and the patterns divided by the scales, so that what remains are products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.models.norms import Norm


@dataclass(frozen=True, eq=False)
class Reader:
    """How something reads the stream: through a norm with a fixed scale, or as it is.

    Args:
        norm: None where the stream is read bare.
        scale: what the norm divides each token by.
    """

    norm: Norm | None
    scale: Float[Tensor, "pos 1"]

    def fold(self, c: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        """A cotangent of what is read as one of the stream, but for the scale."""
        return c if self.norm is None else self.norm.centre(self.norm.gain(c))


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer as products.

    Args:
        pattern: of each head, from the token that attends to the attended one, over the scale of
            the post-norm at the first and of the norm at the second.
        W_write: what each head writes per unit of z.
        W_V: what each key/value head reads, with the norm's gain and centring.
        W_skip: a skip term, from what the MLP writes to the stream, but for the scale.
        skip_scale: that scale.
        error: what the MLP writes beyond the features, biases and skip term; None without an MLP.
    """

    pattern: Float[Tensor, "head pos pos"]
    W_write: Float[Tensor, "head_width d_model"]
    W_V: Float[Tensor, "kv_width d_model"]
    W_skip: Float[Tensor, "d_model d_model"] | None
    skip_scale: Float[Tensor, "pos 1"] | None
    error: Float[Tensor, "pos d_model"] | None


@dataclass(frozen=True, eq=False)
class Active:
    """The active features of one transcoder, by position and then by index.

    Args:
        reader: how the encoder reads the stream.
        divide: what the transcoder's own scaling divides each token's input by.
    """

    dictionary: Dictionary
    pos: Int64[Tensor, "feature"]
    index: Int64[Tensor, "feature"]
    activation: Float[Tensor, "feature"]
    reader: Reader
    divide: Float[Tensor, "pos 1"] | None

    def start(self, some: Int64[Tensor, "row"], dtype: torch.dtype) -> Float[Tensor, "row d_model"]:
        """Some features' pre-activations as cotangents of the stream at their own positions."""
        encoders, pos = self.dictionary.W_enc.T[self.index[some]].to(dtype), self.pos[some]
        if self.divide is not None:
            encoders = encoders / self.divide[pos]
        return self.reader.fold(encoders) / self.reader.scale[pos]


@dataclass(frozen=True, eq=False)
class Local:
    """The local replacement model of one prompt.

    Args:
        input: what enters the first layer.
        active: by the layer where a transcoder reads.
        final: how the logits read the stream.
        logits: of the last position.
    """

    adapter: Adapter
    input: Float[Tensor, "pos d_model"]
    layers: tuple[Layer, ...]
    active: Mapping[int, Active]
    final: Reader
    logits: Float[Tensor, "vocab"]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of all products: the model's, or float32 where that is narrower."""
        return self.input.dtype

    def start(self, vocabulary: Int64[Tensor, "row"]) -> Float[Tensor, "row d_model"]:
        """Logits minus their mean over the vocabulary as cotangents of the last stream."""
        W_U = self.adapter.W_U
        directions = W_U[:, vocabulary].T.to(self.dtype) - W_U.mean(1).to(self.dtype)
        return self.final.fold(directions) / self.final.scale[-1]
