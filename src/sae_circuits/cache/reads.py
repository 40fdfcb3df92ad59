"""What the readers of a run saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sae_circuits.models.dictionaries.placed import Placed


@dataclass(frozen=True, eq=False)
class Reads:
    """What the readers saw: the stream before each norm, and what they made of it.

    `q`, `k`, `v`, the `z` that heads make of them, `mlp` (the MLP's normalised input) and `final`
    (the stream that the logits read) are in the graph of the run's logits if it was made with
    gradients; so is `outputs`, what stands in the stream's place after a dictionary on it, or what
    an MLP or a layer's heads add, by the names of `Writes`: of dictionaries that read the stream,
    or of all; and `patterns`, where they are asked for.
    """

    attn_stream: tuple[Float[Tensor, "batch pos d_model"], ...]
    mlp_stream: tuple[Float[Tensor, "batch pos d_model"], ...]
    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]
    v: tuple[Tensor, ...]
    z: tuple[Tensor, ...]
    mlp: tuple[Float[Tensor, "batch pos d_model"], ...]
    final: Float[Tensor, "batch pos d_model"]
    outputs: Mapping[str, Float[Tensor, "batch pos d_model"]]
    patterns: tuple[Float[Tensor, "batch head pos pos"], ...] = ()

    def into(self, placed: Placed) -> Float[Tensor, "batch pos d_model"]:
        """The stream that a dictionary's features read."""
        if placed.part == "m":
            return self.mlp_stream[placed.layer]
        if placed.part == "a":
            return self.attn_stream[placed.layer]
        return self.outputs[placed.name].detach()
