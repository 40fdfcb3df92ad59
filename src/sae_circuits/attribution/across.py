"""Scores of edges between positions: attention reads keys and values elsewhere than it writes.

An edge into a head's key or value carries what its writer adds at the tokens of span j, and what
the head makes of it stands at the tokens of span i. With dz the metric's gradient at the heads'
output z, and dz_i that at the tokens of span i alone,

    score(u -> v, j -> i) = sum over t in j of d_u[t] . g_vi[t],    g_vi = (dz/dv)^T dz_i

where dz/dv goes through the attention of one layer only. Since z is all that keys and values act
on, the sum over i is the score of `attribute_spans`. All other readers act where they read: i = j.

Reference: Haklay et al. 2025, arXiv 2502.04577.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_circuits.attribution.gradients import Gradients
from sae_circuits.attribution.kernel import score_edges
from sae_circuits.attribution.problem import Problem
from sae_circuits.cache import Run
from sae_circuits.costs.memory import Kind
from sae_circuits.errors import OptionError
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.tasks.spans import Spans

MOST_BYTES = 2 << 30  # of scores, of which two copies are held

PairMatrix = Float[Tensor, "src_span dest_span src dest"]


@dataclass(frozen=True)
class AcrossProblem(Problem):
    """A batch whose edges are scored for every two spans: a point's scores stand for gradients.

    Scores are linear in gradients, so that a rule may add up either; and so no more than one span's
    gradients are held.
    """

    kind: ClassVar[Kind] = "across"

    @classmethod
    def place(cls, adapter: Adapter, graph: TensorGraph) -> tuple[Placed, ...]:
        """The graph's dictionaries.

        Raises:
            OptionError: features that read through heads.
        """
        if graph.through:
            raise OptionError(
                "features that read through heads read at many positions at once: edges between "
                "positions are for graphs made without through=True"
            )
        return Placed.all_of(adapter, graph)

    def gradients(self, of: Run, graph: TensorGraph | None = None) -> PairMatrix:  # type: ignore[override]
        """The scores that one point's gradient gives, summed over the batch."""
        graph = graph or self.graph
        across, here = _parted(graph)
        leaves, saes = self.leaves(of, here)
        layers = {block.layer for block in across.readers if block.layer is not None}
        heads = {layer: of.reads.z[layer] for layer in sorted(layers)}
        slopes = self.slopes(of, {**leaves, **{("z", i): z for i, z in heads.items()}}, again=True)
        dz = {layer: slopes.pop(("z", layer)) for layer in heads}
        total = self._zeros(graph)
        labels = self._labels()
        if here.readers:
            own = self.gradients_from(slopes, of, saes)
            for i, tokens in enumerate(self.tokens()):
                _place(total[i, i], graph, here, self._scored(here, own, tokens))
        for i in range(len(total)) if across.readers else ():
            into = self._into(of, across, {k: _at(g, labels == i) for k, g in dz.items()})
            for j, tokens in enumerate(self.tokens()):
                if _reaches(labels, j, i):
                    _place(total[j, i], graph, across, self._scored(across, into, tokens))
        return total

    def score(self, gradients: PairMatrix, graph: TensorGraph | None = None) -> PairMatrix:
        """What `gradients` made."""
        return gradients

    def zeros(self) -> PairMatrix:
        """Where a method sums its scores."""
        return self._zeros(self.graph)

    # -- parts ---------------------------------------------------------------------------------

    def _into(self, of: Run, across: TensorGraph, dz: dict[int, Tensor]) -> Gradients:
        """The gradient at keys and values of what heads give at some tokens."""
        at: dict[tuple[str, int], Tensor] = {}
        for block in across.readers:
            assert block.layer is not None  # as of all heads
            assert block.port is not None
            read = getattr(of.reads, block.port)[block.layer]
            (grad,) = torch.autograd.grad(
                of.reads.z[block.layer], read, dz[block.layer], retain_graph=True, allow_unused=True
            )
            at[block.port, block.layer] = torch.zeros_like(read) if grad is None else grad
        return self.gradients_from(at, of, ())

    def _scored(
        self, part: TensorGraph, gradients: Gradients, tokens: Tensor
    ) -> Float[Tensor, "src dest"]:
        how = self.adapter, part, self.saes, self.change, gradients, tokens
        return score_edges(*how, space=self.space)

    def _zeros(self, graph: TensorGraph) -> PairMatrix:
        assert self.spans is not None  # as `attribute_spans` gives them
        n = len(self.spans.names)
        shape = n, n, graph.n_src, graph.n_dest
        return torch.zeros(shape, dtype=torch.float64, device=self.adapter.device)

    def _labels(self) -> Tensor:
        """The span of each token of the batch; -1 of padding."""
        assert self.spans is not None
        batch, pos = self.batch.clean.shape
        labels = self.spans.labels[self.first : self.first + batch, :pos]
        real = torch.arange(pos) < self.batch.lengths.cpu()[:, None]
        return labels.masked_fill(~real, -1).to(self.adapter.device)


def require_room(graph: TensorGraph, spans: Spans) -> None:
    """Refuse spans whose scores would not fit into memory.

    Raises:
        OptionError: with how large they would be.
    """
    n = len(spans.names)
    size = 8 * n * n * graph.n_src * graph.n_dest
    if size > MOST_BYTES:
        raise OptionError(
            f"{n} spans have {n * n:,} pairs, and scores of {graph!r} for each take "
            f"{size / (1 << 30):,.1f} GiB, of which {MOST_BYTES >> 30} are allowed: name fewer "
            "spans, or restrict the graph"
        )


def _parted(graph: TensorGraph) -> tuple[TensorGraph, TensorGraph]:
    """The graph of keys and values as readers, and that of all others."""

    def readers(*, across: bool) -> Iterator[Block]:
        return (block for block in graph.readers if (block.port in ("k", "v")) == across)

    across, here = tuple(readers(across=True)), tuple(readers(across=False))
    return replace(graph, readers=across), replace(graph, readers=here)


def _place(
    total: Float[Tensor, "src dest"],
    graph: TensorGraph,
    part: TensorGraph,
    score: Float[Tensor, "src some"],
) -> None:
    """Put the scores of some readers where they belong."""
    for key, (start, block) in part.dest_starts.items():
        first = graph.dest_starts[key][0]
        columns = score[:, start : start + len(block)]
        total[:, first : first + len(block)] += columns


def _at(g: Tensor, some: Bool[Tensor, "batch pos"]) -> Tensor:
    """A gradient at some tokens alone."""
    return g * some.reshape(*some.shape, *[1] * (g.ndim - 2)).to(g.dtype)


def _reaches(labels: Tensor, j: int, i: int) -> bool:
    """Whether any token of span i stands where, or after, one of span j does in its prompt."""
    from_there = (labels == j).cumsum(1) > 0
    return bool((from_there & (labels == i)).any())
