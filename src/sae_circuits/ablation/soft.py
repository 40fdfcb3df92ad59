"""A run in which every edge has a mask from 0 to 1, differentiable in the masks and the constants.

    input(r) = base(r) + sum over edges (s -> r) of m_sr (now(s) - replacement(s))

1 carries what is now, 0 the replacement: with masks of 0 and 1 it is what `Sweep` computes. With r
readers of a layer that see n writers, t tokens, and g the slope of the loss at their streams x,

    x_r = base + sum_s m_sr d_s        dm_sr = sum_t d_s . g_r        dd_s = sum_r m_sr g_r

are the products, r n t d_model multiplications each. x is made anew for the backward pass, some
tokens at a time, so that no stream of a single reader is ever kept: 4 r n t d_model a layer, where
the heads' and the MLP's own part takes 24 t d_model^2. Over GPT-2 small's twelve layers that is 100
beside 170 million a token; held are 2 writers' vectors a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation.changes import MIX_BYTES
from sae_circuits.ablation.split import Site
from sae_circuits.ablation.sweep import Sweep, attend_split
from sae_circuits.graph import Block
from sae_circuits.models.adapter import Projection
from sae_circuits.models.norms import Norm

Stream = Float[Tensor, "reader some d_model"]


@dataclass(frozen=True, eq=False)
class Bus:
    """What all writers add to their replacement, and the slope of the loss there.

    Rows are written in the order of the forward pass. Slopes are summed in the order of the
    backward pass, so that those of a writer are whole once all who read it are done; a marker that
    each `_Write` hands to the next sees to that order.
    """

    changes: Float[Tensor, "src token d_model"]
    slopes: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, n_src: int, start: Float[Tensor, "batch pos d_model"]) -> Bus:
        """Room for batches of one shape."""
        return cls(start.new_empty(n_src, *start.flatten(0, 1).shape))

    @property
    def slope(self) -> Float[Tensor, "src token d_model"]:
        """The slopes, zero where nothing was added."""
        if not self.slopes:
            self.slopes.append(torch.zeros_like(self.changes))
        return self.slopes[0]

    def chunks(self, n_readers: int) -> Iterator[slice]:
        """Some tokens at a time."""
        _, tokens, d_model = self.changes.shape
        size = max(1, MIX_BYTES // (n_readers * d_model * self.changes.element_size()))
        return (slice(at, min(at + size, tokens)) for at in range(0, tokens, size))


@dataclass(frozen=True, eq=False)
class Ports:
    """The q, k and v inputs of a layer's heads: one norm, and a projection for each reader.

    With x^ the normalised stream, s its scale, w the norm's gain and dq the slope at a query, the
    slope at the stream is P (w * W dq) / s - x^ c, where c = dq . (q - q at x^ = 0) / (d_model s)
    is one number (see `attribution/gradients.py`).
    """

    norm: Norm | None
    projections: tuple[Projection, ...]

    def __call__(self, x: Stream) -> list[Tensor]:
        """Queries, keys and values, [reader, some, d_head] each."""
        read = x if self.norm is None else self.norm(x)
        parts = read.split([len(p.W) for p in self.projections])
        return [p(part) for p, part in zip(self.projections, parts, strict=True)]

    def pull_back(self, x: Stream, made: Sequence[Tensor], slopes: Sequence[Tensor]) -> Stream:
        """The slope at the streams, through the projections and the norm."""
        slope = torch.cat(list(slopes))
        if self.norm is None:
            return torch.bmm(slope, self.folded.mT)
        if self.norm.centres:  # fused
            normed, _, over = torch.native_layer_norm(x, x.shape[-1:], None, None, self.norm.eps)
            slope = slope * over
        else:
            normed, scale = self.norm.normalise(x)
            slope = slope / scale
        along = torch.linalg.vecdot(slope, torch.cat(list(made)) - self.at_zero) / x.shape[-1]
        return torch.bmm(slope, self.folded.mT).addcmul_(normed, along[..., None], value=-1)

    @cached_property
    def folded(self) -> Float[Tensor, "reader d_model d_head"]:
        """The projections with the norm's gain and centring in them."""
        W = torch.cat([p.W for p in self.projections])
        return W if self.norm is None else self.norm.centre(self.norm.gain(W.mT)).mT

    @cached_property
    def at_zero(self) -> Float[Tensor, "reader 1 d_head"]:
        """What is made of a stream that is zero once it is normalised."""
        read = self.projections[0].W.new_zeros(self.projections[0].W.shape[1])
        if self.norm is not None and self.norm.bias is not None:
            read = read + self.norm.bias
        return torch.cat([p(read.expand(len(p.W), 1, -1)) for p in self.projections])


@dataclass(frozen=True, eq=False)
class Soft:
    """A batch on which masks can be tried; the model's parameters have to be frozen."""

    sweep: Sweep
    bus: Bus

    def logits(self, mask: Float[Tensor, "edge"]) -> Float[Tensor, "batch vocab"]:
        """The logits at the answer positions when edges carry a share of what is now.

        Their graph is for one backward pass, before the next call on the same bus.
        """
        sweep, start = self.sweep, self.sweep.start
        self.bus.slopes.clear()
        dense = sweep.graph.dense(mask.to(start))
        done = start.new_zeros((), requires_grad=True)
        for site in sweep.sites:
            done = _Write.apply(self.bus, site.rows, done, self._change(site, dense, done))
        (stream,) = self._read([sweep.graph.readers[-1]], None, dense, done)
        return sweep.adapter.logits(stream[0, sweep.answers])

    def _change(self, site: Site, dense: Tensor, done: Tensor) -> Stream:
        """What the writers of a site now write, minus their replacement."""
        sweep, block = self.sweep, site.blocks[0]
        adapter, layer = sweep.adapter, block.layer
        if layer is None:
            return (sweep.start - sweep.replacement["input"]).flatten(0, 1)[None]
        if block.kind == "mlp":
            (stream,) = self._read([block], None, dense, done)
            now = adapter.mlp(layer, stream[0].view_as(sweep.start))
            return (now - sweep.replacement[f"m{layer}"]).flatten(0, 1)[None]
        z = self._z(layer, dense, done)
        change = z / adapter.attn_out_scale(layer, z)[..., None] - sweep.replacement[f"a{layer}"]
        return torch.bmm(change.flatten(0, 1).transpose(0, 1), adapter.W_write(layer))

    def _z(self, layer: int, dense: Tensor, done: Tensor) -> Float[Tensor, "batch pos head d_head"]:
        sweep = self.sweep
        blocks = [sweep.port_block(layer, port) for port in "qkv"]
        ports = Ports(sweep.adapter.attn_norm(layer), tuple(map(self._projection, blocks)))
        made = self._read(blocks, ports, dense, done)
        q, k, v = (x.unflatten(1, sweep.start.shape[:2]).movedim(0, 2) for x in made)
        return attend_split(sweep.adapter, layer, sweep.calls[layer], q, k, v)

    def _projection(self, block: Block) -> Projection:
        """What makes what some heads read into queries, keys or values."""
        sweep, (layer, port) = self.sweep, (block.layer, block.port)
        assert layer is not None
        assert port is not None
        ids = sweep.readers(block)
        columns = sweep.columns(layer, port, torch.arange(ids.start, ids.stop))
        return sweep.adapter.projection(layer, port, columns)

    def _read(
        self, blocks: Sequence[Block], readers: Ports | None, dense: Tensor, done: Tensor
    ) -> tuple[Tensor, ...]:
        """What readers of one depth make of the streams that they get; the streams by default."""
        graph, depth = self.sweep.graph, blocks[0].depth
        seen = slice(*graph.sees(depth))
        mask = torch.cat([dense[seen, self.sweep.readers(block)] for block in blocks], 1)
        base = self.sweep.base[depth].flatten(0, 1)
        return _Read.apply(self.bus, readers, seen, done, mask, base)


class _Write(torch.autograd.Function):
    """Put writers' changes on the bus; their slopes come from there."""

    @staticmethod
    def forward(ctx: Any, bus: Bus, rows: slice, done: Tensor, change: Stream) -> Tensor:
        ctx.bus, ctx.rows = bus, rows
        bus.changes[rows] = change
        return done.clone()

    @staticmethod
    def backward(ctx: Any, after: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        return None, None, after, ctx.bus.slope[ctx.rows].clone()


class _Read(torch.autograd.Function):
    """What readers make of their mixes of the bus, and the slopes of that."""

    @staticmethod
    def forward(
        ctx: Any,
        bus: Bus,
        readers: Ports | None,
        seen: slice,
        done: Tensor,
        mask: Float[Tensor, "seen reader"],
        base: Float[Tensor, "token d_model"],
    ) -> tuple[Tensor, ...]:
        ctx.of = bus, readers, seen
        streams = (_mixed(bus, seen, some, mask, base) for some in bus.chunks(mask.shape[1]))
        each = [[x] if readers is None else readers(x) for x in streams]
        made = tuple(torch.cat(parts, 1) for parts in zip(*each, strict=True))
        ctx.save_for_backward(mask, base, *(() if readers is None else made))
        return made

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (bus, readers, seen), (mask, base, *made) = ctx.of, ctx.saved_tensors
        at_mask = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        at_base = torch.zeros_like(base) if ctx.needs_input_grad[5] else None
        for some in bus.chunks(mask.shape[1]):
            here = [slope[:, some] for slope in slopes]
            if readers is not None:
                x = _mixed(bus, seen, some, mask, base)
                here = [readers.pull_back(x, [t[:, some] for t in made], here)]
            g = here[0].flatten(1)
            at_mask += bus.changes[seen, some].flatten(1) @ g.T
            bus.slope[seen, some].view(len(mask), -1).addmm_(mask, g)
            if at_base is not None:
                at_base[some] = g.sum(0).view_as(base[some])
        return None, None, None, mask.new_zeros(()), at_mask.to(mask.dtype), at_base


def _mixed(bus: Bus, seen: slice, some: slice, mask: Tensor, base: Tensor) -> Stream:
    """The streams that readers get at some tokens."""
    changes = bus.changes[seen, some].flatten(1)
    return torch.addmm(base[some].reshape(1, -1), mask.T, changes).unflatten(1, base[some].shape)
