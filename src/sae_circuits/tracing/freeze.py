"""The run of the model from which the local replacement model is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.cache.places import stream_places, writer_places
from sae_circuits.errors import NumericalError, UnsupportedModel
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.models.hooks import hooked, hooked_input, stopped_at
from sae_circuits.models.norms import Norm
from sae_circuits.precision import wide_dtype
from sae_circuits.tracing.local import Active, Layer, Local, Reader

CHUNK_BYTES = 32 << 20  # pre-activations at a time
TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.03}  # else 1e-3; of the size of z


@torch.no_grad()
def make_local(
    adapter: Adapter,
    tokens: Int64[Tensor, "pos"],
    transcoders: Mapping[int, Dictionary],
    first_position: int,
) -> Local:
    """Run the model once and keep what the local replacement model consists of.

    Raises:
        UnsupportedModel: attention that is more than a pattern times the values.
        NumericalError: NaN or infinity.
    """
    recorder = _Recorder(adapter, transcoders, first_position)
    arch = adapter.architecture
    places, home = stream_places(adapter), adapter.device
    with ExitStack() as stack:
        for name, module in places.items():
            stack.enter_context(hooked_input(module, recorder.see(name), home))
        start = adapter.point("blocks.0.hook_resid_pre")
        stack.enter_context(hooked(start, recorder.see("stream0"), home))
        for layer in range(arch.n_layers):
            pattern = adapter.point(f"blocks.{layer}.attn.hook_pattern")
            stack.enter_context(hooked(pattern, recorder.see(f"pattern{layer}"), home))
        for name, module in writer_places(adapter).items():
            stack.enter_context(hooked(module, recorder.see(name), home))
        stack.enter_context(hooked_input(adapter.unembedding_input, recorder.see("final"), home))
        run = lambda: adapter.forward(tokens[None])  # noqa: E731
        read = stopped_at(adapter.model.unembed, run, before=True, home=home)
    logits = adapter.unembed(read[:, -1])[0]
    if not bool(logits.isfinite().all()):
        raise NumericalError("the logits are not finite: check the model's weights and its dtype")
    return Local(
        adapter=adapter,
        input=recorder.kept["input"],
        layers=tuple(recorder.layers),
        active=recorder.active,
        final=_reader(adapter.final_norm, recorder.kept["final"]),
        logits=logits,
    )


class _Recorder:
    """Turns what the hooks see of a run into layers, and forgets it."""

    def __init__(self, adapter: Adapter, transcoders: Mapping[int, Dictionary], first: int) -> None:
        self.adapter, self.transcoders, self.first = adapter, transcoders, first
        self.dtype = wide_dtype(adapter.dtype)
        self.kept: dict[str, Tensor] = {}
        self.seen: set[str] = set()
        self.layers: list[Layer] = []
        self.active: dict[int, Active] = {}
        self.written: dict[int, Tensor] = {}  # by layer, what transcoders write there
        self.attention: tuple[Tensor, ...] = ()
        self.skip: tuple[Tensor, Tensor] | None = None

    def see(self, name: str) -> Callable[[Tensor], None]:
        """What a hook calls with the first tensor that it gets."""
        kind = name.rstrip("0123456789")
        layer = int(name[len(kind) :] or 0)

        def look(x: Tensor) -> None:
            if name not in self.seen:  # the model's own call comes first, one within it after
                self.seen.add(name)
                getattr(self, f"_{kind}")(layer, x[0])

        return look

    def _stream(self, layer: int, x: Float[Tensor, "pos d_model"]) -> None:
        if layer == 0:
            self.kept["input"] = x.detach().to(self.dtype).clone()
        self.kept["stream"] = x
        if self.adapter.architecture.parallel:
            self._mid(layer, x)

    def _pattern(self, layer: int, pattern: Float[Tensor, "head pos pos"]) -> None:
        self.kept["pattern"] = pattern

    def _z(self, layer: int, z: Tensor) -> None:
        adapter, stream = self.adapter, self.kept.pop("stream")
        if "pattern" not in self.kept:
            raise UnsupportedModel(
                f"the attention patterns of layer {layer} are not to be seen: load the model with "
                "attn_implementation='eager'"
            )
        pattern = self.kept.pop("pattern")
        z = adapter.by_head(z[None])
        self._require_linear(layer, stream, pattern, z[0])
        norm = adapter.attn_norm(layer)
        scale = _reader(norm, stream.to(self.dtype)).scale
        post = adapter.attn_out_scale(layer, z.to(adapter.W_O(layer).dtype))[0].to(self.dtype)
        W_V = adapter.W_in(layer, "v").to(self.dtype).transpose(1, 2)
        if norm is not None:
            W_V = norm.centre(norm.gain(W_V))
        self.attention = (
            pattern.to(self.dtype) / post / scale[:, 0],
            adapter.W_write(layer).to(self.dtype).flatten(0, 1),
            W_V.flatten(0, 1).contiguous(),
        )
        if not adapter.architecture.has_mlps:
            self._close(None)

    def _require_linear(self, layer: int, stream: Tensor, pattern: Tensor, z: Tensor) -> None:
        """Refuse an attention whose z is not its pattern times its values."""
        adapter, arch = self.adapter, self.adapter.architecture
        read = adapter.read(layer, stream)
        every = list(range(arch.n_kv_heads))
        v = adapter.projection(layer, "v", every)(read.expand(len(every), *read.shape))
        v = v.repeat_interleave(arch.n_heads // arch.n_kv_heads, 0)
        made = torch.bmm(pattern.to(v.dtype), v).transpose(0, 1)
        difference = (made - z).abs().max().item()
        if difference > TOLERANCE.get(adapter.dtype, 1e-3) * (1e-6 + z.abs().max().item()):
            raise UnsupportedModel(
                f"the attention of layer {layer} is not its pattern times its values (z differs "
                f"by {difference:.2g}), so it cannot be held constant"
            )

    def _mid(self, layer: int, x: Float[Tensor, "pos d_model"]) -> None:
        adapter, d = self.adapter, self.transcoders.get(layer)
        if d is None:
            return
        norm = adapter.norm_to(d.reads.kind, layer)
        reader, read = _reader(norm, x.to(self.dtype)), x if norm is None else norm(x)
        self.active[layer] = _encoded(d, read, reader, self.first)
        self._write(self.active[layer], x)
        self._out(d.writes[0].layer, x).add_(d.b_dec.to(self.dtype))
        if d.W_skip is not None:
            W_skip = d.W_skip.to(self.dtype)
            self._out(layer, x).add_(read.to(self.dtype) @ W_skip)
            self.skip = reader.fold(W_skip.T), reader.scale

    def _write(self, active: Active, like: Tensor) -> None:
        """Add what active features write to every layer where they do."""
        step = max(1, CHUNK_BYTES // (like.shape[-1] * self.dtype.itemsize))
        for site, W in zip(active.dictionary.writes, active.dictionary.decoders, strict=True):
            out = self._out(site.layer, like)
            for i in range(0, len(active.pos), step):
                some = slice(i, i + step)
                rows = W[active.index[some]].to(self.dtype)
                out.index_add_(0, active.pos[some], rows * active.activation[some, None])

    def _out(self, layer: int, like: Tensor) -> Float[Tensor, "pos d_model"]:
        if layer not in self.written:
            self.written[layer] = torch.zeros_like(like, dtype=self.dtype)
        return self.written[layer]

    def _mlp_out(self, layer: int, x: Float[Tensor, "pos d_model"]) -> None:
        written = self.written.pop(layer, None)
        error = x.to(self.dtype) - (0 if written is None else written)
        if not bool(error.isfinite().all()):
            raise NumericalError(
                f"the MLP of layer {layer} or its transcoder gives NaN or infinity at position "
                f"{int((~error.isfinite()).any(-1).nonzero()[0])}"
            )
        self._close(error)

    def _close(self, error: Tensor | None) -> None:
        pattern, W_write, W_V = self.attention
        W_skip, skip_scale = self.skip or (None, None)
        self.layers.append(Layer(pattern, W_write, W_V, W_skip, skip_scale, error))
        self.skip = None

    def _final(self, layer: int, x: Float[Tensor, "pos d_model"]) -> None:
        self.kept["final"] = x.to(self.dtype)


def _reader(norm: Norm | None, x: Float[Tensor, "pos d_model"]) -> Reader:
    return Reader(norm, x.new_ones(len(x), 1) if norm is None else norm.normalise(x)[1])


def _encoded(
    d: Dictionary, read: Float[Tensor, "pos d_model"], reader: Reader, first: int
) -> Active:
    """The active features from one position on, encoded a few tokens at a time."""
    dtype = reader.scale.dtype
    step = max(1, CHUNK_BYTES // (d.n_features * d.W_enc.dtype.itemsize))
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for i in range(first, len(read), step):
        f = d.encode(read[i : i + step])
        pos, index = f.nonzero(as_tuple=True)
        found.append((pos + i, index, f[pos, index].to(dtype)))
    if not found:
        nothing = torch.zeros(0, dtype=torch.int64, device=read.device)
        found = [(nothing, nothing, nothing.to(dtype))]
    pos, index, activation = (torch.cat(parts) for parts in zip(*found, strict=True))
    scale = d.scale(read.to(d.W_enc.dtype))
    divide = None if scale is None else scale.divide.to(dtype)
    return Active(d, pos, index, activation, reader, divide)
