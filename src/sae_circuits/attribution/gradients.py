"""Gradients at the readers' inputs, in narrow form and summed over the points of a path.

At a point p, the gradient dq at what a reader v makes of the stream (a query, say, W_v^T times the
normalised stream x with its gain w) is pulled back through the projection and the norm (see
`models/norms.py`), and g_v is the sum of that over points:

    g_v = sum_p J_p^T W_v dq_p = P (w * W_v s_v) - sum_p x_p c_pv
    s_v = sum_p dq_p / scale_p                                          [d_head]
    c_pv = x_p . (w * W_v dq_p) / (d_model scale_p)                     one number

The dot product in c_pv is dq_p . (q_p - q_0), with q_0 what is projected where x is 0: nothing as
wide as the stream is computed for a reader before the kernel, and only once for all points there.

A feature that reads the stream is a reader with one number a token: with e_f its column of the
encoder, gate_f its gate and g_out the gradient at what it writes,

    dq_f = gate_f (g_out . W_dec[f]),   W_f = e_f

What does not go through the features' encoders goes through the error node (and the skip term), so
that all of them add up to the gradient of the whole:

    g_error = g - sum_f dq_f e_f - W_skip g_out
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.cache import Run, Writes
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.calls import Call, one_row
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.models.norms import Norm
from sae_circuits.models.projection import Projection
from sae_circuits.precision import wide_dtype


@dataclass(frozen=True, eq=False)
class Point:
    """A run as a dictionary saw it whose features read the stream by more than one direction.

    Args:
        stream: that its features read.
        call: how the model called the layer's attention.
        g_out: the metric's gradient at what it splits.
        gate: which chosen features were active.
    """

    stream: Float[Tensor, "batch pos d_model"]
    call: Call
    g_out: Float[Tensor, "batch pos d_model"]
    gate: Float[Tensor, "#batch #pos feature"]


Place = tuple[str, int]  # "q", "k", "v", "mlp" or "post.f", ... and the layer; or ("final", 0)


@dataclass(frozen=True, eq=False)
class Gradients:
    """The metric's gradient at the readers' inputs, as a sum over points.

    Args:
        at: s_v by place: [batch, pos, head, d_head]; for "mlp", "final" and error nodes and skip
            terms (such as "m.error") [batch, pos, d_model]; for features ("m.f") [batch, pos,
            feature].
        along: c_pv by place, a tensor [batch, pos, head] for each point.
        normed: x_p by (whether it is the MLP's, layer), a tensor [batch, pos, d_model] for each
            point.
        points: by the names of dictionaries whose features' gradients have no narrow form (see
            `vjp.py`), what is needed to make them, for each point.
    """

    at: Mapping[Place, Tensor]
    along: Mapping[Place, tuple[Tensor, ...]]
    normed: Mapping[tuple[bool, int], tuple[Tensor, ...]]
    points: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        adapter: Adapter,
        at: Mapping[Place, Tensor],
        of: Run,
        saes: Sequence[Placed] = (),
        *,
        norms_constant: bool = False,
    ) -> Gradients:
        """Those at one point, from what autograd gives at each place.

        They are in the model's dtype, or in float32 where that is narrower.

        Args:
            at: by place; "m.out" and the like are gradients at what a dictionary writes.
            of: the run at that point.
            saes: dictionaries whose features read the stream.
            norms_constant: take norms' scales for constant, so that nothing goes along x_p.
        """
        reads = of.reads
        dtype = wide_dtype(reads.final.dtype)
        s: dict[Place, Tensor] = {}
        along: dict[Place, tuple[Tensor, ...]] = {}
        normed: dict[tuple[bool, int], tuple[Tensor, ...]] = {}
        points: dict[str, tuple[Point, ...]] = {}
        scales: dict[tuple[bool, int], Tensor] = {}
        for place, grad in at.items():
            port, layer = place
            if port.endswith(".out"):
                continue
            s[place] = (adapter.by_head(grad) if port in "qkv" else grad).to(dtype)
            is_mlp = port == "mlp"
            norm = adapter.mlp_norm(layer) if is_mlp else adapter.attn_norm(layer)
            if port == "final" or norm is None:
                continue
            key = is_mlp, layer
            if key not in scales:
                stream = (reads.mlp_stream if is_mlp else reads.attn_stream)[layer]
                x, scales[key] = norm.normalise(stream.to(dtype))
                normed[key] = (torch.zeros_like(x) if norms_constant else x,)
            if is_mlp:
                s[place] = s[place] / scales[key]
                c = torch.linalg.vecdot(norm.gain(s[place]), normed[key][0])[..., None]
            else:
                s[place] = s[place] / scales[key][..., None]
                q = adapter.by_head(getattr(reads, port)[layer].detach()).to(dtype)
                c = torch.linalg.vecdot(s[place], q - _at_zero(adapter, norm, layer, port, q))
            along[place] = (c / adapter.architecture.d_model,)
        for placed in saes:
            part, layer, key = placed.part, placed.layer, (True, placed.layer)
            whole, place = at[f"{part}.out", layer].to(dtype), ("mlp", layer)
            gate = _gate(placed, of.writes, dtype)
            if not placed.is_linear:
                call = one_row(of.calls[layer], len(whole))
                points[placed.name] = (Point(of.reads.into(placed), call, whole, gate),)
                continue
            split = _Split(placed, whole, gate)
            if not placed.is_transcoder:
                split.add_to(s, whole)
            elif key not in normed:
                split.add_to(s, s[place])
            else:
                x, norm = normed[key][0], adapter.mlp_norm(layer)
                assert norm is not None
                into = norm.centre(norm.gain(s[place])) - x * along[place][0]
                if placed.norm is None:
                    split.add_to(s, into)
                else:
                    along[f"{part}.f", layer] = (split.add_normed(s, into, x, scales[key]),)
        return cls(s, along, normed, points)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of all tensors."""
        found = [p.g_out for points in self.points.values() for p in points]
        return next(iter([*self.at.values(), *found])).dtype

    def __add__(self, other: Gradients) -> Gradients:
        return Gradients(
            {place: s + other.at[place] for place, s in self.at.items()},
            {place: c + other.along[place] for place, c in self.along.items()},
            {place: x + other.normed[place] for place, x in self.normed.items()},
            {name: p + other.points[name] for name, p in self.points.items()},
        )

    def __rmul__(self, weight: float) -> Gradients:
        if weight == 1:
            return self
        return Gradients(
            {place: weight * s for place, s in self.at.items()},
            {place: tuple(weight * c for c in cs) for place, cs in self.along.items()},
            self.normed,
            {
                name: tuple(replace(p, g_out=weight * p.g_out) for p in points)
                for name, points in self.points.items()
            },
        )


def _gate(placed: Placed, writes: Writes, dtype: torch.dtype) -> Tensor:
    """Which chosen features were active in a run."""
    if not len(placed.chosen):
        return next(iter(writes.values.values())).new_zeros(1, 1, 0, dtype=dtype)
    return (writes[f"{placed.name}.f"] != 0).to(dtype)


@dataclass(frozen=True, eq=False)
class _Split:
    """The gradient into a dictionary that reads the stream, shared out among its nodes."""

    placed: Placed
    g_out: Float[Tensor, "batch pos d_model"]
    gate: Float[Tensor, "#batch #pos feature"]

    @property
    def dq(self) -> Float[Tensor, "batch pos feature"]:
        """At the features' pre-activations."""
        return self.gate * (self.g_out @ self.placed.W_dec.to(self.g_out.dtype).T)

    def add_to(self, s: dict[Place, Tensor], into: Float[Tensor, "batch pos d_model"]) -> None:
        """Share out the whole gradient `into` the stream, where no norm is in between."""
        part, layer = self.placed.part, self.placed.layer
        dq = s[f"{part}.f", layer] = self.dq
        rest = into - dq @ self.placed.W_read.to(into.dtype)
        W_skip = self.placed.dictionary.W_skip
        if W_skip is not None:
            skip = s[f"{part}.skip", layer] = self.g_out @ W_skip.to(into.dtype).T
            rest = rest - skip
        s[f"{part}.error", layer] = rest

    def add_normed(
        self,
        s: dict[Place, Tensor],
        into: Float[Tensor, "batch pos d_model"],
        x: Float[Tensor, "batch pos d_model"],
        scale: Float[Tensor, "batch pos 1"],
    ) -> Float[Tensor, "batch pos feature"]:
        """Share it out where a norm is, whose normalised stream is x; returns the features' c."""
        part, layer, norm = self.placed.part, self.placed.layer, self.placed.norm
        assert norm is not None
        W = self.placed.W_read.to(into.dtype)
        dq = s[f"{part}.f", layer] = self.dq / scale
        c = dq * (x @ W.T) / x.shape[-1]
        rest = into - dq @ W + x * c.sum(-1, keepdim=True)
        W_skip = self.placed.dictionary.W_skip
        if W_skip is not None:
            u = norm.gain(self.g_out @ W_skip.to(into.dtype).T / scale)
            along = torch.linalg.vecdot(u, x)[..., None] / x.shape[-1]
            skip = s[f"{part}.skip", layer] = norm.centre(u) - x * along
            rest = rest - skip
        s[f"{part}.error", layer] = rest
        return c


def _at_zero(
    adapter: Adapter, norm: Norm, layer: int, port: str, q: Float[Tensor, "batch pos head d_head"]
) -> Float[Tensor, "head d_head"]:
    """Queries, keys or values where the normalised stream is 0: what the biases give."""
    W, own = adapter.W_in(layer, port).to(q.dtype), adapter.b_in(layer, port)
    bias = W.new_zeros(W.shape[1]) if norm.bias is None else norm.bias.to(q.dtype)
    read = bias.expand(len(W), 1, -1)
    given = Projection(W, None if own is None else own.to(q.dtype))(read)[:, 0]
    return given.repeat_interleave(q.shape[2] // len(W), 0)  # a shared key, read apart
