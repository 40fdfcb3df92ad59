"""What the encoder of a target gets of a stream that it reads, with patterns held as they are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.connectome.look import Looked
from sae_circuits.connectome.work import Work


def read_stream(work: Work, seen: Looked) -> Float[Tensor, "batch pos d_model"]:
    """The stream that the targets read, or the component before them, or the one to go through."""
    if work.through is not None:
        return _before(work, seen, work.through[0], int(work.through[1:]))
    return _own_stream(work, seen)


def target_input(
    work: Work, seen: Looked, stream: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos d_in"]:
    """What the targets' encoder gets when that stream is another one, and none else."""
    if work.through is None:
        return _into_target(work, seen, stream)
    part, layer = work.through[0], int(work.through[1:])
    if part == "a":
        return target_of_z(work, seen, layer, _z(work, seen, layer, stream))
    return _after(work, seen, work.adapter.mlp(layer, stream))


def target_of_z(
    work: Work, seen: Looked, layer: int, z: Float[Tensor, "batch pos head d_head"]
) -> Float[Tensor, "batch pos d_in"]:
    """What the targets' encoder gets when heads give this z, and all else is as it was.

    Args:
        layer: of the heads, whose output the targets split, or which write before them.
    """
    target = work.target
    if work.through is None:
        return target.of_heads(z).to(target.dictionary.W_enc.dtype)
    return _after(work, seen, work.adapter.heads_out(layer, z))


def ports_of(
    work: Work, layer: int, stream: Float[Tensor, "batch pos d_model"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [batch, pos, head, d_head] of a layer's heads that read a stream."""
    adapter, found = work.adapter, []
    read = adapter.read(layer, stream)
    for port in "qkv":
        n = adapter.W_in(layer, port).shape[0]
        project = adapter.projection(layer, port, list(range(n)))
        found.append(project(read.expand(n, *read.shape)).movedim(0, 2))
    return found[0], found[1], found[2]


def _z(
    work: Work, seen: Looked, layer: int, stream: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos head d_head"]:
    """What a layer's heads make of values that read a stream, with their patterns as they are."""
    q, k, v = ports_of(work, layer, stream)
    return work.adapter.attend(layer, seen.calls[layer], q.detach(), k.detach(), v)


def _after(work: Work, seen: Looked, made: Tensor) -> Float[Tensor, "batch pos d_in"]:
    """What the encoder gets when a component writes otherwise, by first order from what it was."""
    own = _own_stream(work, seen)
    return _into_target(work, seen, own + (made - made.detach()).to(own.dtype))


def _into_target(
    work: Work, seen: Looked, stream: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos d_in"]:
    target = work.target
    if target.part != "a":
        return target.read(stream)
    z = _z(work, seen, target.layer, stream)
    return target.of_heads(z).to(target.dictionary.W_enc.dtype)


def _own_stream(work: Work, seen: Looked) -> Float[Tensor, "batch pos d_model"]:
    target = work.target
    if target.part in ("pre", "mid", "post") and not target.is_transcoder:
        return seen.at[target.name]
    return _before(work, seen, target.part, target.layer)


@torch.no_grad()
def _before(work: Work, seen: Looked, part: str, layer: int) -> Float[Tensor, "batch pos d_model"]:
    """The stream that a layer's heads or its MLP read."""
    stream, adapter = seen.streams[layer], work.adapter
    if part == "a" or adapter.architecture.parallel:
        return stream
    return stream + adapter.attn_out(layer, seen.calls[layer], stream)
