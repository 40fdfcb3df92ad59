"""The stream at every place where something reads it, from what the writers write."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.cache.run import Writes
from sae_circuits.graph import Architecture, Block
from sae_circuits.models.adapter import Adapter


def streams_of(adapter: Adapter, writes: Writes) -> dict[str, Float[Tensor, "batch pos d_model"]]:
    """The sum of what is written before each place, with what is constant beside it.

    Returns:
        By place: "pre3", "mid3" and "post3" are the stream before, in the middle of and after
        layer 3; in a parallel block or one without an MLP there is no "mid3".
    """
    arch, found = adapter.architecture, dict[str, Tensor]()
    x = writes["input"]

    def at(place: str, x: Tensor) -> Tensor:
        found[place] = writes.values.get(place, x)  # a dictionary on the stream writes all of it
        return found[place]

    for layer in range(arch.n_layers):
        x = at(f"pre{layer}", x) + heads_out(adapter, layer, writes)
        if arch.has_mlps and not arch.parallel:
            x = at(f"mid{layer}", x)
        x = at(f"post{layer}", x + writes[f"m{layer}"] if arch.has_mlps else x)
    return found


def heads_out(adapter: Adapter, layer: int, writes: Writes) -> Float[Tensor, "batch pos d_model"]:
    """What a layer's attention adds to the stream: the sum of its heads, and what is constant."""
    out = torch.einsum("bphk,hkd->bpd", writes[f"a{layer}"], adapter.W_write(layer))
    constant = adapter.constant(layer)
    return out if constant is None else out + constant


def read_place(arch: Architecture, reader: Block) -> str:
    """The place in the stream that a block of readers sees."""
    if reader.layer is None:
        return f"post{arch.n_layers - 1}"
    if reader.site in ("pre", "mid", "post"):
        return f"{reader.site}{reader.layer}"
    is_mlp = reader.kind == "mlp" or reader.site == "m"
    return f"mid{reader.layer}" if is_mlp and not arch.parallel else f"pre{reader.layer}"
