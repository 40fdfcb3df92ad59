"""Neurons in their place in a model: what they add to the stream.

    MLP of layer l, hidden unit k    (act_k / s) (w * W_out[k])
    head h of layer l, coordinate k  (z_hk / s) (w * W_O[h, k])

with act_k the input of W_out, gate and all, and w and s the gain and the scale of the norm after
the MLP or the heads, where there is one. Neurons do not read the stream: their MLP or their head
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import UnsupportedModel
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.models.hooks import stopped_at
from sae_circuits.models.norms import Norm


@dataclass(frozen=True, eq=False)
class PlacedNeurons(Placed):
    """The neurons of one layer's MLP or heads that are nodes of a graph."""

    def __post_init__(self) -> None:
        if self.part != "m":
            return
        found, n = self._mlp.W_out, self.dictionary.n_features
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != n:
            got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UnsupportedModel(
                f"the MLP of layer {self.layer} has no neurons to tell apart: its W_out is {got}, "
                f"and [{n}, d_model] is what {self.adapter.architecture.model!r} says"
            )

    @cached_property
    def W_dec(self) -> Float[Tensor, "feature d_model"]:
        """What each chosen neuron adds to the stream per unit of its coefficient."""
        if self.part == "a":
            return self.adapter.W_write(self.layer).flatten(0, 1)[self.columns]
        W, norm = self._W_out[self.columns], self._post_norm
        return W if norm is None else norm.gain(norm.centre(W))

    def factor(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token 1"] | None:
        """One over the scale of the norm after the MLP or the heads, where there is one.

        Args:
            x: all neurons' activations.
        """
        if self._post_norm is None:
            return None
        if self.part == "a":
            return 1 / self.adapter.attn_out_scale(self.layer, self._by_head(x))
        return 1 / self._post_norm.normalise(self._sum(x))[1]

    def coefficients(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token feature"]:
        """How much of its row of `W_dec` each chosen neuron adds to the stream.

        Args:
            x: all neurons' activations.
        """
        a, factor = x[..., self.columns], self.factor(x)
        return a if factor is None else a * factor

    def of_mlp(
        self, stream: Float[Tensor, "batch pos d_model"]
    ) -> tuple[Float[Tensor, "batch pos d_in"], Float[Tensor, "batch pos d_model"]]:
        """The activations of a layer's MLP when it reads this stream, and what it then writes."""
        norm, point = self.adapter.mlp_norm(self.layer), f"blocks.{self.layer}.mlp.hook_post"
        read = stream if norm is None else norm(stream)
        run = lambda: self.adapter.run_module(self._mlp, read)  # noqa: E731
        x = stopped_at(self.adapter.point(point), run, home=self.adapter.device)
        out, post = self._sum(x), getattr(self.adapter.block(self.layer), "ln2_post", None)
        return x, out if post is None else self.adapter.run_module(post, out)

    # -- parts ---------------------------------------------------------------------------------

    @property
    def _mlp(self) -> Any:
        return self.adapter.block(self.layer).mlp

    @property
    def _post_norm(self) -> Norm | None:
        if self.part == "a":
            return self.adapter.attn_post_norm(self.layer)
        return self.adapter.mlp_post_norm(self.layer)

    @property
    def _W_out(self) -> Float[Tensor, "feature d_model"]:
        return self.adapter.here(self._mlp.W_out.detach())

    def _sum(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_model"]:
        """What an MLP gives of its activations, before a norm after it."""
        out, bias = x @ self._W_out, self._mlp.b_out
        return out if bias is None else out + self.adapter.here(bias.detach())
