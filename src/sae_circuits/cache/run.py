"""One run of the model: what its writers wrote, and what its readers saw, in narrow form.

The heads are kept as z, q, k and v (d_head wide), never as one copy of the stream per head, so a
run holds O(layers * d_model) numbers a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.cache.places import (
    attn_places,
    dictionary_places,
    edited_place,
    forked_places,
    pattern_places,
    projection_places,
    stream_name,
    stream_places,
    writer_places,
)
from sae_circuits.cache.reads import Reads
from sae_circuits.cache.toward import Toward
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.backward import OWN, BackwardRules
from sae_circuits.models.calls import Call
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.models.hooks import hooked, hooked_input, stopped_at


@dataclass(frozen=True, eq=False)
class Writes:
    """What the writers put into the stream, by the name of their place, along the forward pass.

    `input` and `m3` (an MLP) are [batch, pos, d_model]. `a3` is a layer's z, [batch, pos, head,
    d_head], over the post-norm's scale where there is one, so that what head h adds to the stream
    is `writes["a3"][..., h, :] @ adapter.W_write(3)[h]`. Of a dictionary there are also `m3.f`, the
    coefficients of its chosen features, [batch, pos, feature]; `m3.skip`; and, for one on the
    stream, the stream itself, such as `post3`. What is left to an error node is not kept: it is the
    whole minus these.
    """

    values: Mapping[str, Tensor]

    def __getitem__(self, place: str) -> Tensor:
        return self.values[place]

    def map(self, *others: Writes, by: Callable[..., Tensor]) -> Writes:
        """Apply a function to each tensor, together with the others' tensors in its place."""
        return Writes({k: by(x, *(o.values[k] for o in others)) for k, x in self.values.items()})

    def __sub__(self, other: Writes) -> Writes:
        return self.map(other, by=torch.sub)


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
    saes: Sequence[Placed] = (),
    edits: Mapping[str, Float[Tensor, "batch pos d_model"]] | None = None,
    grad: bool = False,
    split_kv: bool = False,
    attn_outputs: bool = False,
    patterns: bool = False,
    rules: BackwardRules = OWN,
    toward: Toward | None = None,
) -> Run:
    """Run the model once; the logits are computed at one position of each example only.

    Args:
        tokens: left-aligned prompts; padding on the right is never seen.
        position: whose logits to read, per example.
        saes: dictionaries whose features are kept too.
        edits: what some places put into the stream instead: "input", "a3" (the sum of a
            layer's heads and what is constant beside them), "m3", or the stream itself at "pre3"
            or "post3". With `grad`, leaves of the graph.
        grad: keep what the readers saw, and the graph from there to the logits.
        split_kv: keep a key and a value for each query head where the model shares them.
        attn_outputs: keep what each layer's attention adds, with `grad`.
        patterns: keep attention patterns, with `grad`.
        rules: of the backward pass, with `grad`.
        toward: what readers see in the stream's place, with `grad`.
    """
    kept: dict[str, Tensor] = {}
    home = adapter.device
    rows, position = torch.arange(len(tokens), device=home), position.to(home)
    edits = {name: x.detach().requires_grad_(grad) for name, x in (edits or {}).items()}

    def enter(x: Tensor) -> Tensor:
        kept["input"] = edits.get("input", x.detach().requires_grad_(grad))
        return kept["input"]

    with ExitStack() as stack, torch.set_grad_enabled(grad), adapter.frozen():
        calls = stack.enter_context(adapter.calls(range(adapter.architecture.n_layers)))
        stack.enter_context(hooked(adapter.point("blocks.0.hook_resid_pre"), enter, home))
        for name in edits.keys() - {"input"}:  # first, so that what is kept is what is edited
            place, is_input = edited_place(adapter, name)
            edit = hooked_input if is_input else hooked
            stack.enter_context(edit(place, lambda _, name=name: edits[name], home))
        outputs, inputs = writer_places(adapter), dictionary_places(adapter, saes)
        if grad:
            stack.enter_context(rules.inside(adapter))  # first, so that what is kept has its rule
            if toward is not None:
                stack.enter_context(toward.laid(adapter, kept))
            outputs |= projection_places(adapter)
            outputs |= pattern_places(adapter) if patterns else {}
            outputs |= attn_places(adapter, _with_attn_out(adapter, saes, attn_outputs))
            inputs |= stream_places(adapter)
            for name, module in forked_places(adapter).items():
                stack.enter_context(hooked_input(module, _forker(kept, name), home))
        for name, module in outputs.items():
            stack.enter_context(hooked(module, _keeper(kept, name), home))
        for name, module in inputs.items():
            stack.enter_context(hooked_input(module, _keeper(kept, name), home))
        if grad:
            stack.enter_context(rules.at_ports(adapter))  # last: what is kept comes before its rule
        if split_kv and grad and adapter.architecture.n_kv_heads < adapter.architecture.n_heads:
            stack.enter_context(_split_kv(adapter, kept, calls, rules))
        end, forward = adapter.model.unembed, lambda: adapter.forward(tokens)
        read = stopped_at(end, forward, before=True, home=home)
        logits = adapter.unembed(read[rows, position])
    writes = Writes(_written(adapter, kept, saes))
    if not grad:
        return Run(logits, writes, calls)
    reads = _reads(adapter, kept, saes)
    return Run(logits, writes, calls, toward.seen(adapter, reads, kept) if toward else reads)


def _with_attn_out(adapter: Adapter, saes: Sequence[Placed], every: bool) -> list[int]:
    """The layers of which what their attention adds is kept."""
    if every:
        return list(range(adapter.architecture.n_layers))
    return [placed.layer for placed in saes if placed.part == "a" and placed.split.reads_stream]


def _keeper(kept: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    def keep(x: Tensor) -> None:
        kept.setdefault(name, x)  # the model's own call comes first, one within it after

    return keep


def _forker(kept: dict[str, Tensor], name: str) -> Callable[[Tensor], Tensor]:
    def fork(x: Tensor) -> Tensor:
        kept[name] = x.view_as(x)  # its gradient is then this reader's alone
        return kept[name]

    return fork


@contextmanager
def _split_kv(
    adapter: Adapter, kept: dict[str, Tensor], calls: dict[int, Call], rules: BackwardRules
) -> Iterator[None]:
    """Inside, each query head attends with its own copy of its group's key and value."""
    arch = adapter.architecture
    group = arch.n_heads // arch.n_kv_heads
    busy: set[int] = set()

    def splitter(layer: int) -> Callable[[Tensor], Tensor | None]:
        def split(z: Tensor) -> Tensor | None:
            if layer in busy:
                return None
            busy.add(layer)
            q = rules.port("q", adapter.by_head(kept[f"q{layer}"]))
            for port in "kv":
                own = adapter.by_head(kept[f"{port}{layer}"]).repeat_interleave(group, 2)
                kept[f"{port}{layer}"] = own
            k, v = (rules.port(port, kept[f"{port}{layer}"]) for port in "kv")
            slots = [slice(i, None, group) for i in range(group)]
            z_of = [adapter.attend(layer, calls[layer], q, k[:, :, s], v[:, :, s]) for s in slots]
            z_own = torch.stack([z[:, :, s] for z, s in zip(z_of, slots, strict=True)], 3)
            kept[f"z{layer}"] = z_own.flatten(2, 3)
            return kept[f"z{layer}"].reshape(z.shape)

        return split

    with ExitStack() as hooks:
        for layer in range(arch.n_layers):
            z_point = adapter.point(f"blocks.{layer}.attn.hook_z")
            hooks.enter_context(hooked(z_point, splitter(layer), adapter.device))
        yield


@torch.no_grad()
def _written(
    adapter: Adapter, kept: Mapping[str, Tensor], saes: Sequence[Placed]
) -> dict[str, Tensor]:
    """What stands in `Writes`, from what was kept of a run."""
    arch = adapter.architecture
    values, of = {"input": kept["input"].detach()}, {placed.name: placed for placed in saes}

    def add(name: str, whole: Tensor | None) -> None:
        if whole is not None:
            values[name] = whole.detach()
        if name in of:
            values.update(_split(of[name], kept))

    for layer in range(arch.n_layers):
        for part in ("pre", "a", "mid", "m", "post"):
            name = f"{part}{layer}"
            if part == "a":
                z = adapter.by_head(kept[f"z{layer}"]).detach()
                normed = adapter.attn_post_norm(layer) is not None
                add(name, z / adapter.attn_out_scale(layer, z)[..., None] if normed else z)
            elif part == "m":
                add(name, kept.get(f"mlp_out{layer}"))
            elif name in of:
                add(name, kept[stream_name(arch, part, layer)])
    return values


def _split(placed: Placed, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The features' coefficients, and the skip term, from what the encoder got in a run."""
    name, layer, values = placed.name, placed.layer, dict[str, Tensor]()
    if placed.part == "a":
        z = placed.adapter.by_head(kept[f"z{layer}"]).detach()
        return (
            {f"{name}.f": placed.coefficients(placed.of_heads(z))} if len(placed.chosen) else values
        )
    reads = placed.dictionary.reads.kind
    if reads.startswith("mlp"):
        x = kept[f"{reads}{layer}"].detach()
    else:
        part = "mid" if placed.is_transcoder else placed.part
        x = kept[stream_name(placed.adapter.architecture, part, layer)].detach()
    if len(placed.chosen):
        values[f"{name}.f"] = placed.coefficients(x)
    if placed.dictionary.has_skip:
        values[f"{name}.skip"] = placed.skip(x)
    return values


def _reads(adapter: Adapter, kept: dict[str, Tensor], saes: Sequence[Placed]) -> Reads:
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
        z=tuple(kept[f"z{layer}"] for layer in layers),
        mlp=tuple(kept[f"mlp_in{layer}"] for layer in with_mlps),
        final=kept["final"],
        outputs=_outputs(adapter, kept, saes),
        patterns=tuple(kept[f"pattern{layer}"] for layer in layers if f"pattern{layer}" in kept),
    )


def _outputs(
    adapter: Adapter, kept: Mapping[str, Tensor], saes: Sequence[Placed]
) -> dict[str, Tensor]:
    """Places whose gradient is asked for, in the graph."""
    arch = adapter.architecture
    found = {"input": kept["input"]}
    for layer in range(arch.n_layers):
        for name, of in ((f"a{layer}", f"attn_out{layer}"), (f"m{layer}", f"mlp_out{layer}")):
            if of in kept:
                found[name] = kept[of]
    for placed in saes:
        if placed.part not in ("a", "m"):
            found[placed.name] = kept[stream_name(arch, placed.part, placed.layer)]
    return found
