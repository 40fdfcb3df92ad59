"""One view of a TransformerLens model of either kind: weights, norms, hook points, and its parts.

Nothing outside this folder knows which kind a model is. Values are taken at the points where the
two kinds agree (`hook_q`, `hook_k`, `hook_v`, `hook_z`, and the inputs and outputs of the norm, MLP
and unembedding modules), with torch hooks that are removed when a run ends, however it ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sae_circuits.errors import ModelError, UnsupportedModel
from sae_circuits.graph import Architecture
from sae_circuits.models.calls import CACHE_ARGUMENTS, STREAM_ARGUMENTS, Call
from sae_circuits.models.hooks import first, replaced_heads, stopped_at
from sae_circuits.models.norms import Norm
from sae_circuits.models.placement import device_of, require_in_memory
from sae_circuits.models.projection import Projection
from sae_circuits.precision import wide


@dataclass(frozen=True, eq=False)
class Adapter:
    """A model seen as writers and readers of a stream; holds no state of its own."""

    model: Any
    architecture: Architecture

    @classmethod
    def of(cls, model: Any) -> Adapter:
        """View a model.

        Raises:
            ModelError: weights that are kept elsewhere than on a device until they are needed.
            UnsupportedModel: see `Architecture.of`; or a norm after a layer whose output has a
                bias, which would make the bias depend on the heads.
        """
        if isinstance(model, Adapter):
            return model
        adapter = cls(model, Architecture.of(model))
        require_in_memory(model, adapter.parameters())
        for layer in range(adapter.architecture.n_layers):
            bias = adapter.b_O(layer)
            if adapter.attn_post_norm(layer) and bias is not None and bool(bias.any()):
                raise UnsupportedModel(
                    f"layer {layer} normalises its attention's output and adds a bias before; "
                    "the heads' shares would not add up"
                )
        return adapter

    def __getstate__(self) -> dict[str, Any]:  # modules that were found are of this model alone
        return {"model": self.model, "architecture": self.architecture}

    # -- places ------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's stream."""
        return self.W_O(0).dtype

    @property
    def is_hooked(self) -> bool:
        """Whether the model is a `HookedTransformer`, and no bridge to another."""
        return not hasattr(self.model, "original_model")

    @property
    def device(self) -> torch.device:
        """The device on which the model takes its tokens, and where all that is found is gathered.

        Layers may be on others: what is seen of them comes here, and weights are given here.
        """
        return next(self.parameters()).device

    def here(self, x: Tensor) -> Tensor:
        """The same on the device where all is gathered."""
        return x.to(self.device)

    def run_module(self, module: Any, x: Tensor) -> Tensor:
        """What a module of the model makes of this, on whichever device that is."""
        return self.here(first(module(x.to(device_of(module, x)))))

    def _norm(self, module: nn.Module | None) -> Norm | None:
        norm = Norm.of(module, self.model.cfg)
        return None if norm is None else norm.to(self.device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter that the forward pass touches, each once."""
        yield from nn.Module.parameters(self.model)
        wrapped = getattr(self.model, "original_model", None)
        if wrapped is not None:
            own = {id(p) for p in nn.Module.parameters(self.model)}
            yield from (p for p in wrapped.parameters() if id(p) not in own)

    @property
    def fingerprint(self) -> str:
        """A hash of the parameters' shapes and of about 1,024 values of each."""
        digest = hashlib.sha256()
        for parameter in self.parameters():
            values = parameter.detach().flatten()
            some = values[:: max(1, len(values) // 1024)].double().cpu().numpy()
            digest.update(f"{tuple(parameter.shape)}".encode() + some.tobytes())
        return digest.hexdigest()[:16]

    def require_same(self, fingerprint: str) -> None:
        """Raise a `ModelError` where another process has loaded a model of other weights."""
        if self.fingerprint != fingerprint:
            raise ModelError(
                f"a worker's model ({self.architecture.model!r}) has other weights than the one "
                "that it works for: give workers(load=...) the same model and dtype"
            )

    def block(self, layer: int) -> Any:
        """The module of one layer."""
        return self.model.blocks[layer]

    def point(self, name: str) -> nn.Module:
        """A hook point by its TransformerLens name."""
        try:
            return self._points[name]
        except KeyError:
            layers = self.architecture.n_layers
            raise UnsupportedModel(
                f"{name!r} is not a hook point of {self.architecture.model!r} "
                f"({layers} layers: 0 to {layers - 1})"
            ) from None

    @cached_property
    def _points(self) -> dict[str, nn.Module]:
        return dict(self.model.hook_dict)  # a bridge gathers it anew each time that it is asked

    # -- weights -----------------------------------------------------------------------------

    def W_O(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """What each head writes per unit of z."""
        return self.here(self.block(layer).attn.W_O.detach())

    def b_O(self, layer: int) -> Float[Tensor, "d_model"] | None:
        """The attention's output bias, which belongs to no head."""
        bias = self.block(layer).attn.b_O
        return None if bias is None else self.here(bias.detach())

    def W_in(self, layer: int, port: str) -> Float[Tensor, "head d_model d_head"]:
        """W_Q, W_K or W_V; the latter two with one head per key/value head."""
        attn, name = self.block(layer).attn, f"W_{port.upper()}"
        shared = getattr(attn, f"_{name}", None)  # grouped-query: the property repeats it
        return self.here((getattr(attn, name) if shared is None else shared).detach())

    def b_in(self, layer: int, port: str) -> Float[Tensor, "head d_head"] | None:
        """b_Q, b_K or b_V; the latter two with one head per key/value head."""
        attn, name = self.block(layer).attn, f"b_{port.upper()}"
        shared = getattr(attn, f"_{name}", None)
        bias = getattr(attn, name) if shared is None else shared
        return None if bias is None else self.here(bias.detach())

    @property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        """What makes logits of the normalised stream."""
        return self.here(self.model.unembed.W_U.detach())

    # -- norms -------------------------------------------------------------------------------

    def attn_norm(self, layer: int) -> Norm | None:
        """The norm through which the heads of a layer read the stream."""
        return self._norm(getattr(self.block(layer), "ln1", None))

    def mlp_norm(self, layer: int) -> Norm | None:
        """The norm through which a layer's MLP reads the stream."""
        return self._norm(self.mlp_norm_module(layer))

    def mlp_norm_module(self, layer: int) -> nn.Module | None:
        """The MLP's own norm, or the attention's where the two share one."""
        block = self.block(layer)
        return getattr(block, "ln2", None) or getattr(block, "ln1", None)

    def norm_to(self, kind: str, layer: int) -> Norm | None:
        """The norm between the stream and "mlp_in" or "mlp_normalized"; None for all else."""
        norm = self.mlp_norm(layer) if kind in ("mlp_in", "mlp_normalized") else None
        return norm.bare if norm is not None and kind == "mlp_normalized" else norm

    def normed_place(self, kind: str, layer: int) -> nn.Module:
        """The module whose input stands at "mlp_in" or "mlp_normalized"."""
        norm: Any = self.mlp_norm_module(layer)
        if kind == "mlp_in" or Norm.of(norm, self.model.cfg) is None:
            return self.block(layer).mlp
        return norm.hook_normalized

    def attn_post_norm(self, layer: int) -> Norm | None:
        """The norm between the attention's output and the stream, if there is one."""
        return self._norm(getattr(self.block(layer), "ln1_post", None))

    def mlp_post_norm(self, layer: int) -> Norm | None:
        """The norm between the MLP's output and the stream, if there is one."""
        return self._norm(getattr(self.block(layer), "ln2_post", None))

    @property
    def final_norm(self) -> Norm | None:
        """The norm through which the logits read the stream."""
        return self._norm(getattr(self.model, "ln_final", None))

    def attn_out_scale(
        self, layer: int, z: Float[Tensor, "*token head d_head"]
    ) -> Float[Tensor, "*token 1"]:
        """What the post-norm divides the sum of a layer's heads by; 1 where there is none."""
        norm = self.attn_post_norm(layer)
        if norm is None:
            return z.new_ones(*z.shape[:-2], 1)
        return norm.normalise(torch.einsum("...hk,hkd->...d", z, self.W_O(layer)))[1]

    def W_write(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """What each head adds to the stream per unit of z over the post-norm's scale."""
        return self.here(self.W_write_there(layer))

    def W_write_there(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """The same on the layer's own device, for what is made chunk by chunk."""
        block = self.block(layer)
        norm = Norm.of(getattr(block, "ln1_post", None), self.model.cfg)
        weight = block.attn.W_O.detach()
        return weight if norm is None else norm.gain(norm.centre(weight))

    def constant(self, layer: int) -> Float[Tensor, "d_model"] | None:
        """What a layer's attention adds to the stream whatever its heads do."""
        norm = self.attn_post_norm(layer)
        return self.b_O(layer) if norm is None else norm.bias

    # -- running -----------------------------------------------------------------------------

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """No parameter asks for a gradient inside; each is as it was afterwards."""
        asking = [p for p in self.parameters() if p.requires_grad]
        try:
            for parameter in asking:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in asking:
                parameter.requires_grad_(True)

    def forward(self, tokens: Int64[Tensor, "batch pos"]) -> Float[Tensor, "batch some vocab"]:
        """The model's own forward pass: the logits of the positions that its hooks let through."""
        return self.here(self.model(tokens.to(self.device), return_type="logits"))

    @cached_property
    def unembedding_input(self) -> nn.Module:
        """The module whose input is the stream that the logits read."""
        return getattr(self.model, "ln_final", None) or self.model.unembed

    # -- parts, run one by one ----------------------------------------------------------------

    def read(
        self, layer: int, stream: Float[Tensor, "*row pos d_model"]
    ) -> Float[Tensor, "*row pos d_model"]:
        """The stream as the heads of a layer see it: normalised."""
        norm = self.attn_norm(layer)
        return stream if norm is None else norm(stream)

    def projection(self, layer: int, port: str, heads: list[int]) -> Projection:
        """What makes queries, keys or values of some heads from what each of them reads."""
        W, bias = self.W_in(layer, port), self.b_in(layer, port)
        if heads == list(range(len(W))):
            return Projection(W, bias)
        return Projection(W[heads], None if bias is None else bias[heads])

    def attend(
        self,
        layer: int,
        call: Call,
        q: Float[Tensor, "batch pos head d_head"],
        k: Float[Tensor, "batch pos kv_head d_head"],
        v: Float[Tensor, "batch pos kv_head d_head"],
    ) -> Float[Tensor, "batch pos head d_head"]:
        """z from queries, keys and values by the model's own attention: positions, masks, caps.

        Args:
            call: how the model called this attention in a run of the same length (see `calls`).
        """
        return self.by_head(self._attended(layer, call, "hook_z", q=q, k=k, v=v))

    def pattern(
        self,
        layer: int,
        call: Call,
        q: Float[Tensor, "batch pos head d_head"],
        k: Float[Tensor, "batch pos kv_head d_head"],
    ) -> Float[Tensor, "batch head pos pos"]:
        """The attention pattern that queries and keys make, in the model's own way.

        Args:
            call: as in `attend`.
        """
        return self._attended(layer, call, "hook_pattern", q=q, k=k, v=torch.zeros_like(k))

    def _attended(self, layer: int, call: Call, stop: str, **ports: Tensor) -> Tensor:
        """What a point of a layer's attention gets from these queries, keys and values."""
        # The model's own projections are replaced: a HookedTransformer may project one token, a
        # bridge wants the right number of them.
        q = ports["q"]
        size = (1, 1) if self.is_hooked else q.shape[:2]
        nothing = q.new_zeros(*size, self.architecture.d_model)
        with ExitStack() as hooks:
            for port, value in ports.items():
                point = self.point(self.port_name(layer, port))
                hooks.enter_context(replaced_heads(point, value))
            point = self.point(f"blocks.{layer}.attn.{stop}")
            attend = lambda: self._call_attn(layer, call, nothing)  # noqa: E731
            return stopped_at(point, attend, home=self.device)

    def z(
        self, layer: int, call: Call, stream: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        """z of a layer's heads when all of them read this stream."""
        z_point, read = self.point(f"blocks.{layer}.attn.hook_z"), self.read(layer, stream)
        attend = lambda: self._call_attn(layer, call, read)  # noqa: E731
        return self.by_head(stopped_at(z_point, attend, home=self.device))

    def attn_out(
        self, layer: int, call: Call, stream: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """What a layer's attention adds to the stream when all its heads read this stream."""
        return self._post(layer, self._call_attn(layer, call, self.read(layer, stream)))

    def heads_out(
        self, layer: int, z: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """What a layer's attention adds to the stream when its heads give this z."""
        out, bias = torch.einsum("bphk,hkd->bpd", z, self.W_O(layer)), self.b_O(layer)
        return self._post(layer, out if bias is None else out + bias)

    def _post(self, layer: int, out: Tensor) -> Tensor:
        post = getattr(self.block(layer), "ln1_post", None)
        return out if post is None else self.run_module(post, out)

    def _call_attn(self, layer: int, call: Call, read: Tensor) -> Tensor:
        (args, kwargs), attn = call, self.block(layer).attn
        read = read.to(device_of(attn, read))
        args = (read, *args[1:]) if args else ()
        kwargs = {k: read if k in STREAM_ARGUMENTS else v for k, v in kwargs.items()}
        return self.here(first(attn(*args, **kwargs)))

    def mlp(
        self, layer: int, stream: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """What a layer's MLP writes when it reads this stream."""
        block, norm = self.block(layer), self.mlp_norm(layer)
        out = self.run_module(block.mlp, stream if norm is None else norm(stream))
        post = getattr(block, "ln2_post", None)
        return out if post is None else self.run_module(post, out)

    def logits(self, stream: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch vocab"]:
        """The logits of the final stream at one position per example."""
        norm = self.final_norm
        return self.unembed(stream if norm is None else norm(stream))

    def unembed(self, read: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch vocab"]:
        """The logits of the final stream once it is normalised, at one position per example."""
        module = self.model.unembed
        W_U, bias = module.W_U, getattr(module, "b_U", None)
        logits = read.to(W_U.device) @ W_U
        logits = wide(self.here(logits if bias is None else logits + bias))
        cap = getattr(self.model.cfg, "output_logits_soft_cap", None)
        return cap * torch.tanh(logits / cap) if cap and cap > 0 else logits

    def port_name(self, layer: int, port: str) -> str:
        """The hook point of a layer's queries, keys or values."""
        return f"blocks.{layer}.attn.hook_{port}"

    def by_head(self, x: Tensor) -> Float[Tensor, "batch pos head d_head"]:
        """Split the last axis into heads, where the model keeps them joined."""
        if x.ndim == 4:
            return x
        return rearrange(x, "b p (h k) -> b p h k", k=self.architecture.d_head)

    @contextmanager
    def calls(self, layers: range) -> Iterator[dict[int, Call]]:
        """Note how the model calls its attentions, to call them again with `attend`."""
        noted: dict[int, Call] = {}

        def noter(layer: int) -> Callable[..., None]:
            def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                kept = {k: None if k in CACHE_ARGUMENTS else v for k, v in kwargs.items()}
                noted[layer] = args, kept

            return note

        with ExitStack() as hooks:
            for layer in layers:
                attn = self.block(layer).attn
                handle = attn.register_forward_pre_hook(noter(layer), with_kwargs=True)
                hooks.callback(handle.remove)
            yield noted
