"""One run of the model: what its writers wrote, and what its readers saw, in narrow form.

The heads are kept as z, q, k and v (d_head wide), never as one copy of the stream per head, so a
run holds O(layers * d_model) numbers a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.cache.places import (
    edited_place,
    forked_places,
    projection_places,
    stream_places,
    writer_places,
)
from sae_circuits.models.adapter import Adapter, Call
from sae_circuits.models.hooks import hooked, hooked_input, stopped_at


@dataclass(frozen=True, eq=False)
class Writes:
    """What the writers put into the stream: the input, each layer's heads and MLP.

    Heads are kept as z, over the post-norm's scale where there is one, so that what head h adds
    to the stream is `heads[l][..., h, :] @ adapter.W_write(l)[h]`.
    """

    input: Float[Tensor, "*token d_model"]
    heads: tuple[Float[Tensor, "*token head d_head"], ...]
    mlps: tuple[Float[Tensor, "*token d_model"], ...]

    def map(self, *others: Writes, by: Callable[..., Tensor]) -> Writes:
        """Apply a function to each tensor, together with the others' tensors in its place."""

        def zipped(field: str) -> tuple[Tensor, ...]:
            return tuple(map(by, getattr(self, field), *(getattr(o, field) for o in others)))

        return Writes(by(self.input, *(o.input for o in others)), zipped("heads"), zipped("mlps"))

    def __sub__(self, other: Writes) -> Writes:
        return self.map(other, by=torch.sub)

    def named(self) -> dict[str, Tensor]:
        """Every tensor by the name of its place, along the forward pass."""
        found = {"input": self.input}
        for layer, z in enumerate(self.heads):
            found[f"a{layer}"] = z
            if self.mlps:
                found[f"m{layer}"] = self.mlps[layer]
        return found


@dataclass(frozen=True, eq=False)
class Reads:
    """What the readers saw: the stream before each norm, and what they made of it.

    `q`, `k`, `v`, `mlp` (the MLP's normalised input) and `final` (the stream that the logits
    read) are in the graph of the run's logits if it was made with gradients.
    """

    attn_stream: tuple[Float[Tensor, "batch pos d_model"], ...]
    mlp_stream: tuple[Float[Tensor, "batch pos d_model"], ...]
    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]
    v: tuple[Tensor, ...]
    mlp: tuple[Float[Tensor, "batch pos d_model"], ...]
    final: Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True, eq=False)
class Run:
    """A forward pass with what was kept of it."""

    logits: Float[Tensor, "batch vocab"]
    writes: Writes
    calls: dict[int, Call]
    seen: Reads | None = None

    @property
    def reads(self) -> Reads:
        """What the readers saw; kept only by a run with gradients."""
        if self.seen is None:
            raise RuntimeError("this run was made without gradients and kept no reads")
        return self.seen


def run(
    adapter: Adapter,
    tokens: Int64[Tensor, "batch pos"],
    position: Int64[Tensor, "batch"],
    *,
    edits: Mapping[str, Float[Tensor, "batch pos d_model"]] | None = None,
    grad: bool = False,
    split_kv: bool = False,
) -> Run:
    """Run the model once; the logits are computed at one position of each example only.

    Args:
        tokens: left-aligned prompts; padding on the right is never seen.
        position: whose logits to read, per example.
        edits: what some places put into the stream instead: "input", "a3" (the sum of a
            layer's heads and what is constant beside them), "m3". With `grad`, leaves of the graph.
        grad: keep what the readers saw, and the graph from there to the logits.
        split_kv: keep a key and a value for each query head where the model shares them.
    """
    kept: dict[str, Tensor] = {}
    rows = torch.arange(len(tokens), device=adapter.device)
    position = position.to(adapter.device)

    edits = {name: x.detach().requires_grad_(grad) for name, x in (edits or {}).items()}

    def enter(x: Tensor) -> Tensor:
        kept["input"] = edits.get("input", x.detach().requires_grad_(grad))
        return kept["input"]

    def keeper(name: str) -> Callable[[Tensor], None]:
        def keep(x: Tensor) -> None:
            kept.setdefault(name, x)  # the model's own call comes first, one within it after

        return keep

    def forker(name: str) -> Callable[[Tensor], Tensor]:
        def fork(x: Tensor) -> Tensor:
            kept[name] = x.view_as(x)  # its gradient is then this reader's alone
            return kept[name]

        return fork

    with ExitStack() as stack, torch.set_grad_enabled(grad), adapter.frozen():
        calls = stack.enter_context(adapter.calls(range(adapter.architecture.n_layers)))
        stack.enter_context(hooked(adapter.point("blocks.0.hook_resid_pre"), enter))
        for name, module in writer_places(adapter).items():
            stack.enter_context(hooked(module, keeper(name)))
        if grad:
            for name, module in stream_places(adapter).items():
                stack.enter_context(hooked_input(module, keeper(name)))
            for name, module in projection_places(adapter).items():
                stack.enter_context(hooked(module, keeper(name)))
            for name, module in forked_places(adapter).items():
                stack.enter_context(hooked_input(module, forker(name)))
        for name in edits.keys() - {"input"}:
            place = edited_place(adapter, name)
            stack.enter_context(hooked(place, lambda _, name=name: edits[name]))
        if split_kv and grad and adapter.architecture.n_kv_heads < adapter.architecture.n_heads:
            stack.enter_context(_split_kv(adapter, kept, calls))
        read = stopped_at(adapter.model.unembed, lambda: adapter.forward(tokens), before=True)
        logits = adapter.unembed(read[rows, position])
    return Run(logits, _writes(adapter, kept), calls, _reads(adapter, kept) if grad else None)


@contextmanager
def _split_kv(adapter: Adapter, kept: dict[str, Tensor], calls: dict[int, Call]) -> Iterator[None]:
    """Inside, each query head attends with its own copy of its group's key and value."""
    arch = adapter.architecture
    group = arch.n_heads // arch.n_kv_heads
    busy: set[int] = set()

    def splitter(layer: int) -> Callable[[Tensor], Tensor | None]:
        def split(z: Tensor) -> Tensor | None:
            if layer in busy:
                return None
            busy.add(layer)
            q = adapter.by_head(kept[f"q{layer}"])
            for port in "kv":
                own = adapter.by_head(kept[f"{port}{layer}"]).repeat_interleave(group, 2)
                kept[f"{port}{layer}"] = own
            k, v = kept[f"k{layer}"], kept[f"v{layer}"]
            slots = [slice(i, None, group) for i in range(group)]
            z_of = [adapter.attend(layer, calls[layer], q, k[:, :, s], v[:, :, s]) for s in slots]
            z_own = torch.stack([z[:, :, s] for z, s in zip(z_of, slots, strict=True)], 3)
            kept[f"z{layer}"] = z_own.flatten(2, 3)
            return z_own.reshape(z.shape)

        return split

    with ExitStack() as hooks:
        for layer in range(arch.n_layers):
            z_point = adapter.point(f"blocks.{layer}.attn.hook_z")
            hooks.enter_context(hooked(z_point, splitter(layer)))
        yield


def _writes(adapter: Adapter, kept: dict[str, Tensor]) -> Writes:
    arch = adapter.architecture
    layers = range(arch.n_layers)

    def z(layer: int) -> Tensor:
        z = adapter.by_head(kept[f"z{layer}"]).detach()
        norm = adapter.attn_post_norm(layer)
        return z if norm is None else z / adapter.attn_out_scale(layer, z)[..., None]

    mlps = tuple(kept[f"mlp_out{layer}"].detach() for layer in layers) if arch.has_mlps else ()
    return Writes(kept["input"].detach(), tuple(map(z, layers)), mlps)


def _reads(adapter: Adapter, kept: dict[str, Tensor]) -> Reads:
    arch = adapter.architecture
    layers = range(arch.n_layers)
    streams = [kept["input"], *(kept[f"stream{layer}"] for layer in layers[1:])]
    with_mlps = layers if arch.has_mlps else range(0)
    mids = streams if arch.parallel else [kept[f"mid{layer}"] for layer in with_mlps]
    return Reads(
        attn_stream=tuple(x.detach() for x in streams),
        mlp_stream=tuple(x.detach() for x in mids[: len(with_mlps)]),
        q=tuple(kept[f"q{layer}"] for layer in layers),
        k=tuple(kept[f"k{layer}"] for layer in layers),
        v=tuple(kept[f"v{layer}"] for layer in layers),
        mlp=tuple(kept[f"mlp_in{layer}"] for layer in with_mlps),
        final=kept["final"],
    )
