"""A run in which every edge has a mask from 0 to 1, differentiable in the masks and the constants.

    input(r) = base(r) + sum over edges (s -> r) of m_sr (now(s) - replacement(s))

1 carries what is now, 0 the replacement: with masks of 0 and 1 it is what `Sweep` computes. With r
readers of a layer that see n writers, t tokens, and g the slope of the loss at their streams x,

    x_r = base + sum_s m_sr d_s        dm_sr = sum_t d_s . g_r        dd_s = sum_r m_sr g_r

are the products, r n t d_model multiplications each: 3 r n t d_model a layer, where the heads' and
the MLP's own part takes 24 t d_model^2. Over GPT-2 small's twelve layers that is 75 beside 170
million a token; held are 2 writers' vectors a token, and x, normalised, for the backward pass where
it fits into `KEEP_BYTES`. What does not is made anew, some tokens at a time: one product more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation.changes import MIX_BYTES
from sae_circuits.ablation.split import Site
from sae_circuits.ablation.sweep import Sweep, attend_split
from sae_circuits.graph import Block
from sae_circuits.models.norms import Norm
from sae_circuits.models.projection import Projection

Stream = Float[Tensor, "reader some d_model"]

KEEP_BYTES = 512 << 20  # of single readers' streams, from the forward to the backward pass


@dataclass(eq=False)
class Bus:
    """What all writers add to their replacement, and the slope of the loss there.

    Rows are written in the order of the forward pass. Slopes are summed in the order of the
    backward pass, so that those of a writer are whole once all who read it are done; a marker that
    each `_Write` hands to the next sees to that order.

    Args:
        terms: room for a base, then for every writer's change.
        slopes: of the loss at the changes, once there are any.
        kept: bytes of streams that wait for the backward pass.
    """

    terms: Float[Tensor, "term token d_model"]
    slopes: Float[Tensor, "src token d_model"] | None = None
    kept: int = 0

    @classmethod
    def of(cls, n_src: int, start: Float[Tensor, "batch pos d_model"]) -> Bus:
        """Room for batches of one shape."""
        return cls(start.new_empty(1 + n_src, *start.flatten(0, 1).shape))

    def clear(self) -> None:
        """Forget the last run."""
        self.slopes, self.kept = None, 0

    @property
    def changes(self) -> Float[Tensor, "src token d_model"]:
        """What the writers add, those that have been run."""
        return self.terms[1:]

    @property
    def slope(self) -> Float[Tensor, "src token d_model"]:
        """The slopes, zero where nothing was added."""
        if self.slopes is None:
            self.slopes = torch.zeros_like(self.changes)
        return self.slopes

    def mixed(
        self,
        some: slice,
        mask: Float[Tensor, "seen reader"],
        base: Float[Tensor, "token d_model"],
    ) -> Stream:
        """The streams that readers of the first writers get at some tokens."""
        self.terms[0, some] = base[some]  # with a mask of 1, so that one product does it all
        shares = torch.cat([mask.new_ones(1, mask.shape[1]), mask])
        terms = self.terms[: len(shares), some]
        return (shares.T @ terms.flatten(1)).unflatten(1, terms.shape[1:])

    def keeps(self, streams: Stream) -> bool:
        """Whether there is room for streams until the backward pass; if so, it is taken."""
        size = streams.numel() * streams.element_size()
        fits = self.kept + size <= KEEP_BYTES
        self.kept += size * fits
        return fits

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

    def normalise(self, x: Stream) -> tuple[Stream, Float[Tensor, "reader some 1"] | None]:
        """x^ and 1 / s; without a norm x, and nothing."""
        if self.norm is None:
            return x, None
        if self.norm.centres:  # fused
            normed, _, over = torch.native_layer_norm(x, x.shape[-1:], None, None, self.norm.eps)
            return normed, over
        normed, scale = self.norm.normalise(x)
        return normed, 1 / scale

    def __call__(self, normed: Stream) -> Float[Tensor, "reader some d_head"]:
        """Queries, keys and values."""
        return torch.baddbmm(self.at_zero, normed, self.folded)

    def pull_back(
        self,
        normed: Stream,
        over: Float[Tensor, "reader some 1"] | None,
        made: Float[Tensor, "reader some d_head"],
        slope: Float[Tensor, "reader some d_head"],
    ) -> Stream:
        """The slope at the streams, through the projections and the norm."""
        if over is None:
            return torch.bmm(slope, self.folded.mT)
        slope = slope * over
        along = torch.linalg.vecdot(slope, made - self.at_zero) / normed.shape[-1]
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
        self.bus.clear()
        dense = sweep.graph.dense(mask.to(start))
        done = start.new_zeros((), requires_grad=True)
        for site in sweep.sites:
            done = _Write.apply(self.bus, site.rows, done, self._change(site, dense, done))
        stream = self._read([sweep.graph.readers[-1]], None, dense, done)[0]
        return sweep.adapter.logits(stream[sweep.answers])

    def _change(self, site: Site, dense: Tensor, done: Tensor) -> Stream:
        """What the writers of a site now write, minus their replacement."""
        sweep, block = self.sweep, site.blocks[0]
        adapter, layer = sweep.adapter, block.layer
        if layer is None:
            return (sweep.start - sweep.replacement["input"]).flatten(0, 1)[None]
        if block.kind == "mlp":
            stream = self._read([block], None, dense, done)[0]
            now = adapter.mlp(layer, stream.view_as(sweep.start))
            return (now - sweep.replacement[f"m{layer}"]).flatten(0, 1)[None]
        z = self._z(layer, dense, done)
        change = z / adapter.attn_out_scale(layer, z)[..., None] - sweep.replacement[f"a{layer}"]
        return torch.bmm(change.flatten(0, 1).transpose(0, 1), adapter.W_write(layer))

    def _z(self, layer: int, dense: Tensor, done: Tensor) -> Float[Tensor, "batch pos head d_head"]:
        sweep = self.sweep
        blocks = [sweep.port_block(layer, port) for port in "qkv"]
        if layer not in self._ports:
            norm, projections = sweep.adapter.attn_norm(layer), map(self._projection, blocks)
            self._ports[layer] = Ports(norm, tuple(projections))
        made = self._read(blocks, self._ports[layer], dense, done)
        made = made.unflatten(1, sweep.start.shape[:2]).movedim(0, 2)
        q, k, v = made.split([len(block) for block in blocks], 2)
        return attend_split(sweep.adapter, layer, sweep.calls[layer], q, k, v)

    @cached_property
    def _ports(self) -> dict[int, Ports]:
        return {}

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
    ) -> Float[Tensor, "reader token size"]:
        """What readers of one depth make of the streams that they get; the streams by default."""
        graph, depth = self.sweep.graph, blocks[0].depth
        first, end = graph.sees(depth)
        assert first == 0, "no dictionary splits the stream"
        mask = torch.cat([dense[:end, self.sweep.readers(block)] for block in blocks], 1)
        base = self.sweep.base[depth].flatten(0, 1)
        return _Read.apply(self.bus, readers, done, mask, base)


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
        ports: Ports | None,
        done: Tensor,
        mask: Float[Tensor, "seen reader"],
        base: Float[Tensor, "token d_model"],
    ) -> Float[Tensor, "reader token size"]:
        ctx.bus, ctx.ports, ctx.kept = bus, ports, {}
        made = []
        for some in bus.chunks(mask.shape[1]):
            x = bus.mixed(some, mask, base)
            if ports is not None:
                normed = ports.normalise(x)
                if bus.keeps(x):
                    ctx.kept[some.start] = normed
                x = ports(normed[0])
            made.append(x)
        whole = torch.cat(made, 1)
        ctx.save_for_backward(mask, base, None if ports is None else whole)
        return whole

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        bus, ports, (mask, base, made) = ctx.bus, ctx.ports, ctx.saved_tensors
        at_mask = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
        at_base = torch.zeros_like(base) if ctx.needs_input_grad[4] else None
        for some in bus.chunks(mask.shape[1]):
            g = slope[:, some]
            if ports is not None:
                normed = ctx.kept.pop(some.start, None)
                normed = normed or ports.normalise(bus.mixed(some, mask, base))
                g = ports.pull_back(*normed, made[:, some], g)
            g = g.flatten(1)
            at_mask += bus.changes[: len(mask), some].flatten(1) @ g.T
            bus.slope[: len(mask), some].view(len(mask), -1).addmm_(mask, g)
            if at_base is not None:
                at_base[some] = g.sum(0).view_as(base[some])
        return None, None, mask.new_zeros(()), at_mask.to(mask.dtype), at_base
