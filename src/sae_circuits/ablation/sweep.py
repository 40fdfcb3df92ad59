"""Running a model with every edge outside a circuit intervened on.

Each reader gets what it would get had the absent edges carried the intervention's values, and what
it computes from that is what later readers see:

    input(r) = base(r) + sum over present edges (s -> r) of (now(s) - replacement(s))
    base(r)  = sum over all edges (s -> r) of replacement(s), and the biases

`base`, and what the heads make of it, is shared by all circuits; of the rest, only what stands in
a circuit is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.ablation.changes import Changes
from sae_circuits.ablation.located import Located
from sae_circuits.ablation.plan import Plan
from sae_circuits.ablation.split import Site, SplitChange
from sae_circuits.cache import Writes
from sae_circuits.graph import Block, TensorGraph, depth_of
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.calls import Call
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.progress import track

LOGIT_BYTES = 64 << 20  # of the logits of several circuits at once


@dataclass(frozen=True)
class Sweep:
    """A batch on which any number of circuits can be run.

    Args:
        start: the stream that enters the model, where the circuit has the edge that carries it.
        replacement: what absent edges carry.
        is_run: whether those values are those of a run of the model.
        calls: how the model calls its attentions on such a batch.
        position: whose logits to read.
        saes: the graph's dictionaries.
        space: bytes of a work space.
    """

    adapter: Adapter
    graph: TensorGraph
    start: Float[Tensor, "batch pos d_model"]
    replacement: Writes
    is_run: bool
    calls: dict[int, Call]
    position: Int64[Tensor, "batch"]
    saes: tuple[Placed, ...] = ()
    space: int = LOGIT_BYTES

    def logits(self, circuits: Sequence[Located]) -> Iterator[Float[Tensor, "batch vocab"]]:
        """The logits at the answer positions when only a circuit's edges carry what is now.

        One circuit after the other; several share a pass through the unembedding.
        """
        batch, vocab = len(self.start), self.adapter.architecture.d_vocab
        together = max(
            1, min(LOGIT_BYTES, self.space // 2) // (batch * vocab * self.start.element_size())
        )
        every = track(circuits, total=len(circuits), description="circuits")
        for some in batched(every, together):
            streams = torch.cat([self.final_stream(circuit) for circuit in some])
            yield from self.adapter.logits(streams).split(batch)

    def final_stream(self, circuit: Located) -> Float[Tensor, "batch d_model"]:
        """What the logits read at the answer positions."""
        plan = Plan.of(circuit, self.adapter, self.saes, is_run=self.is_run)
        wide = (plan.writers & ~self.is_narrow).nonzero()[:, 0]
        changes = Changes(plan, wide, self._space(len(wide)))
        for site in self.sites:
            alive = plan.alive(site.rows)
            if len(alive):
                self.change(site, alive, changes)
        return self.read_final(changes)

    # -- parts -------------------------------------------------------------------------------

    @property
    def answers(self) -> Int64[Tensor, "batch"]:
        """Which of all examples' tokens in a row are at the answer positions."""
        rows = torch.arange(len(self.start), device=self.start.device)
        return rows * self.start.shape[1] + self.position

    def read_final(self, changes: Changes) -> Float[Tensor, "batch d_model"]:
        """What the logits read at the answer positions, once all changes are made."""
        logits = self.graph.readers[-1]
        base = self.base[logits.depth].flatten(0, 1)[self.answers]
        return base + changes.at(self.readers(logits).start, self.answers)

    def change(self, site: Site, alive: Int64[Tensor, "writer"], changes: Changes) -> None:
        """Make what some writers of a site now write, minus their replacement."""
        block, shape = site.blocks[0], self.start.shape
        layer = block.layer
        if layer is None:
            torch.sub(self.start, self.replacement["input"], out=changes.rows(alive)[0].view(shape))
        elif block.site is not None:
            SplitChange(self, self._placed[block.site, layer], changes).make(site, alive)
        elif block.kind == "mlp":
            now = self.adapter.mlp(layer, self.stream(block, changes))
            out = changes.rows(alive)[0].view(shape)
            torch.sub(now, self.replacement[f"m{layer}"], out=out)
        else:
            z = self.z(layer, changes)
            scale = self.adapter.attn_out_scale(layer, z)
            heads = (alive - site.rows.start).to(z.device)
            change = (z / scale[..., None] - self.replacement[f"a{layer}"])[:, :, heads]
            W = self.adapter.W_write(layer)[heads]
            torch.bmm(change.flatten(0, 1).transpose(0, 1), W, out=changes.rows(alive))

    def stream(self, reader: Block, changes: Changes) -> Float[Tensor, "batch pos d_model"]:
        """The stream that the only reader of a block gets."""
        dest = torch.tensor([self.readers(reader).start])
        base = self.base[reader.depth].flatten(0, 1)
        return torch.cat([x[0].clone() for x in changes.streams(dest, base)]).view(self.start.shape)

    def z(self, layer: int, changes: Changes) -> Float[Tensor, "batch pos head d_head"]:
        """z of a layer's heads: those that see an edge of the circuit from what they then read."""
        ports = {port: self.base_port(layer, port) for port in "qkv"}
        changed = {port: changes.plan.changed(self._ports(layer, port)) for port in "qkv"}
        dests = torch.cat(list(changed.values()))
        if len(dests):
            depth = depth_of(self.adapter.architecture, "head", layer, None)
            new: dict[str, list[Tensor]] = {"q": [], "k": [], "v": []}
            projections = {
                port: self.adapter.projection(layer, port, self.columns(layer, port, some))
                for port, some in changed.items()
            }
            for stream in changes.streams(dests, self.base[depth].flatten(0, 1)):
                reads = self.adapter.read(layer, stream).split([len(c) for c in changed.values()])
                for port, read in zip("qkv", reads, strict=True):
                    new[port].append(projections[port](read))
            for port, dest in changed.items():
                if len(dest):
                    column = dest - self._ports(layer, port).start
                    ports[port] = ports[port].clone()
                    projected = torch.cat(new[port], 1).unflatten(1, self.start.shape[:2])
                    ports[port][:, :, column] = projected.movedim(0, 2)
        return attend_split(self.adapter, layer, self.calls[layer], **ports)

    # -- what all circuits share -------------------------------------------------------------

    @cached_property
    def base(self) -> dict[int, Float[Tensor, "batch pos d_model"]]:
        """The stream that readers of each depth get when every edge carries its replacement."""
        streams: dict[int, Tensor] = {}
        stream, sites = self.replacement["input"], iter(self.sites[1:])
        site = next(sites, None)
        for block in self.graph.readers:
            while site is not None and site.blocks[0].depth < block.depth:
                written = self._replacement_of(site.blocks[0])
                stream = written if site.blocks[0].is_bottleneck else stream + written
                site = next(sites, None)
            streams[block.depth] = stream
        return streams

    def _replacement_of(self, block: Block) -> Float[Tensor, "batch pos d_model"]:
        """What the writers of a site together replace, and what is constant beside them."""
        layer = block.layer
        assert layer is not None
        part = block.site or ("m" if block.kind == "mlp" else "a")
        if part != "a":
            return self.replacement[f"{part}{layer}"]
        z, constant = self.replacement[f"a{layer}"], self.adapter.constant(layer)
        out = torch.einsum("bphk,hkd->bpd", z, self.adapter.W_write(layer))
        return out if constant is None else out + constant

    def base_port(self, layer: int, port: str) -> Float[Tensor, "batch pos head d_head"]:
        """Queries, keys or values of a layer when every edge carries its replacement."""
        if (layer, port) not in self._base_ports:
            read = self.adapter.read(
                layer, self.base[depth_of(self.adapter.architecture, "head", layer, None)]
            )
            columns = list(range(len(self.adapter.W_in(layer, port))))
            heads = read[None].expand(len(columns), *read.shape)
            projected = self.adapter.projection(layer, port, columns)(heads).movedim(0, 2)
            where = self._ports(layer, port)
            share = (where.stop - where.start) // len(columns)
            self._base_ports[layer, port] = projected.repeat_interleave(share, 2)
        return self._base_ports[layer, port]

    def base_features(
        self, placed: Placed, block: Block
    ) -> tuple[Float[Tensor, "batch pos feature"], Float[Tensor, "batch pos 1"] | None]:
        """Pre-activations of features that read the stream, and their factor, of the same."""
        if placed.name not in self._base_features:
            call = self.calls[placed.layer] if placed.part == "a" else None
            read = placed.read(self.base[block.depth], call)
            self._base_features[placed.name] = placed.pre(read), placed.factor(read)
        return self._base_features[placed.name]

    def _space(self, n: int) -> Float[Tensor, "alive token d_model"]:
        """Where a circuit writes its changes; one circuit after the other uses the same."""
        if len(self._spaces) == 0 or len(self._spaces[0]) < n:
            self._spaces[:] = [self.start.new_empty(n, *self.start.flatten(0, 1).shape)]
        return self._spaces[0][:n]

    @cached_property
    def _spaces(self) -> list[Tensor]:
        return []

    @cached_property
    def _base_features(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        return {}

    @cached_property
    def _base_ports(self) -> dict[tuple[int, str], Tensor]:
        return {}

    # -- where a block's nodes are -------------------------------------------------------------

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """The writers whose values are made together."""
        return tuple(Site(rows, blocks) for rows, blocks in self.graph.sites())

    @cached_property
    def is_narrow(self) -> Bool[Tensor, "src"]:
        """Which writers are features or neurons, whose changes are kept narrow."""
        blocks = self.graph.writers
        return torch.cat([torch.full((len(b),), b.is_narrow) for b in blocks])

    @cached_property
    def _placed(self) -> dict[tuple[str, int], Placed]:
        return {(placed.part, placed.layer): placed for placed in self.saes}

    def readers(self, block: Block) -> slice:
        """The ids of a block of readers."""
        start, found = self.graph.dest_starts[block.key]
        return slice(start, start + len(found))

    def _ports(self, layer: int, port: str) -> slice:
        """The ids of the readers of a layer's queries, keys or values."""
        return self.readers(self.port_block(layer, port))

    def port_block(self, layer: int, port: str) -> Block:
        """The readers of a layer's queries, keys or values."""
        starts = self.graph.dest_starts
        keys = [(kind, layer, port, None) for kind in ("head", "kv")]
        return next(starts[key][1] for key in keys if key in starts)  # type: ignore[index]

    def columns(self, layer: int, port: str, dests: Int64[Tensor, "dest"]) -> list[int]:
        """The heads of the model's own weights through which some readers of a port read."""
        where = self._ports(layer, port)
        share = (where.stop - where.start) // len(self.adapter.W_in(layer, port))
        return [(dest - where.start) // share for dest in dests.tolist()]


def attend_split(
    adapter: Adapter, layer: int, call: Call, q: Tensor, k: Tensor, v: Tensor
) -> Float[Tensor, "batch pos head d_head"]:
    """z when keys and values are given for each key/value head, or for each query head."""
    arch = adapter.architecture
    if k.shape[2] == v.shape[2] == arch.n_kv_heads:
        return adapter.attend(layer, call, q, k, v)
    group = arch.n_heads // arch.n_kv_heads
    slots = [slice(i, None, group) for i in range(group)]
    z = [adapter.attend(layer, call, q, k[:, :, s], v[:, :, s])[:, :, s] for s in slots]
    return torch.stack(z, 3).flatten(2, 3)


def batched(circuits: Iterator[Located], size: int) -> Iterator[list[Located]]:
    """Some circuits at a time."""
    while some := list(islice(circuits, size)):
        yield some
