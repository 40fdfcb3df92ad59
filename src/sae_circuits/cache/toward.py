"""Readers that see the stream some of the way towards another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_circuits.cache.reads import Reads
from sae_circuits.errors import UnsupportedModel
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.hooks import hooked_input


@dataclass(frozen=True, eq=False)
class Toward:
    """What every reader of a run sees in place of the stream x: `x + share (other - x)`.

    The stream itself goes on as it is, so that each reader sees what the run's own writers write,
    some of the way towards what they would write instead.

    Args:
        streams: the other one by place (see `streams_of`).
    """

    streams: dict[str, Float[Tensor, "batch pos d_model"]]
    share: float

    @contextmanager
    def laid(self, adapter: Adapter, kept: dict[str, Tensor]) -> Iterator[None]:
        """Inside, all readers of the model see that, and it is kept by "seen." and the place."""

        def move(place: str, x: Tensor) -> Tensor:
            kept[f"seen.{place}"] = torch.lerp(x, self.streams[place].to(x.dtype), self.share)
            return kept[f"seen.{place}"]

        with ExitStack() as stack:
            for module, place in _readers(adapter).items():
                stack.enter_context(hooked_input(module, partial(move, place), adapter.device))
            yield

    def seen(self, adapter: Adapter, reads: Reads, kept: dict[str, Tensor]) -> Reads:
        """The reads of such a run, with the streams that its readers saw."""
        streams = {place: kept[f"seen.{place}"].detach() for place in _readers(adapter).values()}
        layers = range(adapter.architecture.n_layers)
        return replace(
            reads,
            attn_stream=tuple(streams[f"pre{layer}"] for layer in layers),
            mlp_stream=tuple(
                streams.get(f"mid{layer}", streams[f"pre{layer}"])
                for layer in layers[: len(reads.mlp_stream)]
            ),
        )


def _readers(adapter: Adapter) -> dict[nn.Module, str]:
    """Modules through which readers see the stream, with the place in it that they see."""
    arch = adapter.architecture
    places: dict[nn.Module, str] = {adapter.unembedding_input: f"post{arch.n_layers - 1}"}
    for layer in range(arch.n_layers):
        norm = getattr(adapter.block(layer), "ln1", None)
        if norm is None:
            raise UnsupportedModel(
                f"layer {layer} reads the stream without a norm's module, where what its heads "
                "see could be moved: use another method, such as 'eap-ig'"
            )
        if arch.has_mlps:
            mlp = adapter.mlp_norm_module(layer) or adapter.block(layer).mlp
            places[mlp] = f"pre{layer}" if arch.parallel else f"mid{layer}"
        places[norm] = f"pre{layer}"  # last: heads and MLP may share it
    return places
