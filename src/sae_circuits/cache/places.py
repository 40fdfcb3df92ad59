"""Where in a model each thing that a run keeps is to be seen."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sae_circuits.graph import Architecture
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed


def writer_places(adapter: Adapter) -> dict[str, nn.Module]:
    """Modules whose output is what heads (z) and MLPs write."""
    places: dict[str, nn.Module] = {}
    for layer in range(adapter.architecture.n_layers):
        places[f"z{layer}"] = adapter.point(f"blocks.{layer}.attn.hook_z")
        if adapter.architecture.has_mlps:
            block = adapter.block(layer)
            places[f"mlp_out{layer}"] = getattr(block, "ln2_post", None) or block.mlp
    return places


def attn_places(adapter: Adapter, layers: Sequence[int]) -> dict[str, nn.Module]:
    """Modules whose output is what some layers' attention adds to the stream."""
    return {f"attn_out{layer}": edited_place(adapter, f"a{layer}")[0] for layer in layers}


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


def pattern_places(adapter: Adapter) -> dict[str, nn.Module]:
    """Modules whose output is a layer's attention patterns."""
    layers = range(adapter.architecture.n_layers)
    return {f"pattern{i}": adapter.point(f"blocks.{i}.attn.hook_pattern") for i in layers}


def forked_places(adapter: Adapter) -> dict[str, nn.Module]:
    """Modules whose input is read by them alone, once it is forked: MLPs and the unembedding."""
    arch = adapter.architecture
    layers = range(arch.n_layers) if arch.has_mlps else ()
    mlps: dict[str, nn.Module] = {f"mlp_in{layer}": adapter.block(layer).mlp for layer in layers}
    return {**mlps, "final": adapter.unembedding_input}


def stream_name(arch: Architecture, part: str, layer: int) -> str:
    """The name under which a run keeps the stream before, in the middle of or after a layer.

    What leaves a layer enters the next; what leaves the last is what the logits read.
    """
    if part == "mid":
        return f"mid{layer}"
    enters = layer + (part == "post")
    if enters == arch.n_layers:
        return "final"
    return f"stream{enters}" if enters else "input"


def dictionary_places(adapter: Adapter, saes: Sequence[Placed]) -> dict[str, nn.Module]:
    """Modules whose input some dictionaries read, but for the places kept by every run."""
    arch = adapter.architecture
    places: dict[str, nn.Module] = {}
    for placed in saes:
        layer, reads = placed.layer, placed.dictionary.reads.kind
        if reads in ("mlp_in", "mlp_normalized"):
            places[f"{reads}{layer}"] = adapter.normed_place(reads, layer)
        elif reads == "mlp_post":
            places[f"mlp_post{layer}"] = adapter.point(f"blocks.{layer}.mlp.hook_post")
        elif reads.startswith("resid"):
            part = "mid" if placed.is_transcoder else placed.part
            name = stream_name(arch, part, layer)
            if name != "input":
                places[name] = stream_place(adapter, part, layer)
    return places


def stream_place(adapter: Adapter, part: str, layer: int) -> nn.Module:
    """The module whose input is the stream before, in the middle of or after a layer."""
    if part == "mid":
        norm = adapter.mlp_norm_module(layer)
        return adapter.block(layer).mlp if norm is None else norm
    enters = layer + (part == "post")
    if enters == adapter.architecture.n_layers:
        return adapter.unembedding_input
    return adapter.point(f"blocks.{enters}.hook_resid_pre")


def edited_place(adapter: Adapter, name: str) -> tuple[nn.Module, bool]:
    """The module of a place that can be edited, and whether it is its input that is edited.

    "a3" and "m3" are what a layer's attention or MLP adds; "pre3" and "post3" the stream.
    """
    part = name.rstrip("0123456789")
    layer = int(name.removeprefix(part))
    block = adapter.block(layer)
    if part == "a":
        return getattr(block, "ln1_post", None) or block.attn, False
    if part == "m":
        return getattr(block, "ln2_post", None) or block.mlp, False
    return stream_place(adapter, part, layer), True


def site_place(adapter: Adapter, kind: str, layer: int) -> tuple[nn.Module, bool]:
    """The module where a kind of site stands in a layer, and whether it is its input."""
    if kind == "z":
        return adapter.point(f"blocks.{layer}.attn.hook_z"), False
    if kind == "mlp_post":
        return adapter.point(f"blocks.{layer}.mlp.hook_post"), False
    if kind in ("mlp_normalized", "mlp_in"):
        return adapter.normed_place(kind, layer), True
    if kind in ("attn_out", "mlp_out"):
        return edited_place(adapter, f"{kind[0]}{layer}")
    return stream_place(adapter, kind.removeprefix("resid_"), layer), True
