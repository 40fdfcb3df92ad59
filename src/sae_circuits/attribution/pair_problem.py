"""A batch whose features are kept by their non-zeros, and what it leaves for scores of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.gradients import Gradients, Place
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.sparse import Active, ActivePlaced, dot_rows, with_values
from sae_circuits.cache import Run, Writes
from sae_circuits.costs.memory import Kind
from sae_circuits.graph import Block, Split, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.precision import wide

Start = tuple[int, Block]  # a block of features with the index of its first in the graph


def joined(graph: TensorGraph) -> Iterator[tuple[Start, Start]]:
    """All two blocks of features that edges join, by destination and then by source."""
    for dest, reader in graph.dest_starts.values():
        if reader.kind != "feature" or not _split(graph, reader).reads_stream:
            continue
        start, stop = graph.sees(reader.depth)
        for src, writer in graph.src_starts.values():
            if writer.kind == "feature" and start <= src < stop:
                yield (src, writer), (dest, reader)


def _split(graph: TensorGraph, block: Block) -> Split:
    assert block.site is not None  # as of all features
    assert block.layer is not None
    return graph.splits[block.site, block.layer]


@dataclass(frozen=True, eq=False)
class Ends:
    """What features have at each token of a task: everything that scores of pairs are made of.

    Args:
        saes: the dictionaries by name, such as "m3".
        change: of each that writes, how its coefficients change under the intervention.
        gradient: of each that reads the stream, the gradient at its pre-activations, and what goes
            along the norm's scale at each point.
        normed: of each of these, the normalised stream at each point; no point without a norm.
    """

    saes: Mapping[str, ActivePlaced]
    change: Mapping[str, Active]
    gradient: Mapping[str, Active]
    normed: Mapping[str, Float[Tensor, "token point d_model"]]

    @classmethod
    def cat(cls, parts: Sequence[Ends]) -> Ends:
        """Those of several batches."""
        first = parts[0]
        return cls(
            first.saes,
            {name: Active.cat([part.change[name] for part in parts]) for name in first.change},
            {name: Active.cat([part.gradient[name] for part in parts]) for name in first.gradient},
            {name: torch.cat([part.normed[name] for part in parts]) for name in first.normed},
        )


@dataclass(frozen=True)
class PairProblem(Problem):
    """A batch whose features are kept by their non-zeros."""

    kind: ClassVar[Kind] = "pairs"

    @classmethod
    def place(cls, adapter: Adapter, graph: TensorGraph) -> tuple[Placed, ...]:
        """The graph's dictionaries, with sparse coefficients."""
        return ActivePlaced.all_of(adapter, graph)

    @cached_property
    def writing(self) -> tuple[ActivePlaced, ...]:
        """The dictionaries that a feature reads."""
        return self._named({f"{block.site}{block.layer}" for (_, block), _ in joined(self.graph)})

    @cached_property
    def reading(self) -> tuple[ActivePlaced, ...]:
        """The dictionaries whose features read others."""
        return self._named({f"{block.site}{block.layer}" for _, (_, block) in joined(self.graph)})

    def _named(self, names: set[str]) -> tuple[ActivePlaced, ...]:
        return tuple(cast("ActivePlaced", p) for p in self.saes if p.name in names)

    @cached_property
    def change(self) -> Writes:
        """What the intervention changes in the features that are sources, and nothing else."""
        clean = self.clean.writes
        names = [f"{placed.name}.f" for placed in self.writing]
        if self.intervention.name == "zero":
            return Writes({name: -clean[name] for name in names})
        # Wide, since torch has no difference of sparse tensors in float16 on a processor.
        return Writes({name: wide(self.replacement[name]) - wide(clean[name]) for name in names})

    def gradients(self, of: Run, graph: TensorGraph | None = None) -> Gradients:
        """The gradient of the metric at the features that read the stream, as sparse tensors."""
        leaves: dict[Place, Tensor] = {
            (f"{p.part}.out", p.layer): of.reads.outputs[p.name] for p in self.reading
        }
        slopes = self.slopes(of, leaves)
        at: dict[Place, Tensor] = {}
        along: dict[Place, tuple[Tensor, ...]] = {}
        normed: dict[tuple[bool, int], tuple[Tensor, ...]] = {}
        for p in self.reading:
            place, active = (f"{p.part}.f", p.layer), of.writes[f"{p.name}.f"]
            g_out = wide(slopes[f"{p.part}.out", p.layer])
            if p.norm is None:
                at[place] = with_values(active, dot_rows(g_out, active, p, read=False))
                continue
            x, scale = p.norm.normalise(of.reads.mlp_stream[p.layer].to(g_out.dtype))
            dq = dot_rows(g_out / scale, active, p, read=False)
            c = dq * dot_rows(x, active, p, read=True) / x.shape[-1]
            at[place], along[place] = with_values(active, dq), (with_values(active, c),)
            normed[True, p.layer] = (x,)
        return Gradients(at, along, normed)

    def ends(self, gradients: Gradients) -> Ends:
        """What features have at the real tokens of this batch."""
        lengths = self.batch.lengths.to(self.adapter.device)
        real = torch.arange(self.batch.clean.shape[1], device=lengths.device) < lengths[:, None]
        change, gradient, normed = {}, {}, {}
        for p in self.writing:
            a = self.change[f"{p.name}.f"].to(gradients.dtype)
            change[p.name] = Active.of([a], real)
        for p in self.reading:
            place = f"{p.part}.f", p.layer
            along = gradients.along.get(place, ())
            gradient[p.name] = Active.of([gradients.at[place], *along], real)
            x = gradients.normed[True, p.layer] if along else ()
            width = self.adapter.architecture.d_model
            empty = gradients.at[place].values().new_empty(int(real.sum()), 0, width)
            normed[p.name] = torch.stack([own[real] for own in x], 1) if along else empty
        saes = {p.name: p for p in (*self.writing, *self.reading)}
        return Ends(saes, change, gradient, normed)
