"""Where in a model each thing that a run keeps is to be seen."""

from __future__ import annotations

from torch import nn

from sae_circuits.models.adapter import Adapter


def writer_places(adapter: Adapter) -> dict[str, nn.Module]:
    """Modules whose output is what heads (z) and MLPs write."""
    places: dict[str, nn.Module] = {}
    for layer in range(adapter.architecture.n_layers):
        places[f"z{layer}"] = adapter.point(f"blocks.{layer}.attn.hook_z")
        if adapter.architecture.has_mlps:
            block = adapter.block(layer)
            places[f"mlp_out{layer}"] = getattr(block, "ln2_post", None) or block.mlp
    return places


def stream_places(adapter: Adapter) -> dict[str, nn.Module]:
    """Modules whose input is the stream as a layer's heads, or its MLP, come to read it.

    In a parallel block the MLP reads what the heads read; layer 0's heads read the input itself.
    """
    arch = adapter.architecture
    places: dict[str, nn.Module] = {}
    for layer in range(arch.n_layers):
        if layer:
            places[f"stream{layer}"] = adapter.point(f"blocks.{layer}.hook_resid_pre")
        if arch.has_mlps and not arch.parallel:
            norm = adapter.mlp_norm_module(layer)
            places[f"mid{layer}"] = adapter.block(layer).mlp if norm is None else norm
    return places


def projection_places(adapter: Adapter) -> dict[str, nn.Module]:
    """Modules whose output is a layer's queries, keys or values."""
    layers = range(adapter.architecture.n_layers)
    return {
        f"{port}{layer}": adapter.point(adapter.port_name(layer, port))
        for layer in layers
        for port in "qkv"
    }


def forked_places(adapter: Adapter) -> dict[str, nn.Module]:
    """Modules whose input is read by them alone, once it is forked: MLPs and the unembedding."""
    arch = adapter.architecture
    layers = range(arch.n_layers) if arch.has_mlps else ()
    mlps: dict[str, nn.Module] = {f"mlp_in{layer}": adapter.block(layer).mlp for layer in layers}
    return {**mlps, "final": adapter.unembedding_input}


def edited_place(adapter: Adapter, name: str) -> nn.Module:
    """The module whose output is what a layer's attention ("a3") or MLP ("m3") adds."""
    block = adapter.block(int(name[1:]))
    if name[0] == "a":
        return getattr(block, "ln1_post", None) or block.attn
    return getattr(block, "ln2_post", None) or block.mlp
