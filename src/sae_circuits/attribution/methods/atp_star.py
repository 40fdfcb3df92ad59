"""AtP*: EAP whose queries and keys are patched for real as far as the attention pattern (QK fix).

Kramar, Lieberum, Shah and Nanda 2024, arXiv 2403.00745. An attention that is sure of itself has no
gradient, though its pattern may change altogether. So an edge into a query or a key is scored by
what the pattern P of the head becomes when the reader alone sees the writer's change, everywhere,

    score(u -> v) = (P(x_v + d_u) - P) . dm/dP                      v a query or a key
    score(u -> v) = d_u . g_v                                       all other readers, as in EAP

with the reader's norm, rotation, mask and cap those of the model; gradients are at the clean run.

`grad_drop` also guards against effects that cancel between a direct path and one through a layer:
it is the mean, over the backward passes that skip one layer's attention and MLP each, of the size
of an example's score. Passes that skip the reader's own layer, where it has no gradient, do not
count. Its scores are sizes, at least 0.

2 forward passes and 1 backward (with `grad_drop`, one for each layer; one forward more where query
heads read a shared key apart); and for each layer and each writer before it two patterns, of all
its heads at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.attribution.gradients import Gradients, Place
from sae_circuits.attribution.kernel import score_edges
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.cache import Run
from sae_circuits.cache.pieces import each_write
from sae_circuits.costs.passes import Passes
from sae_circuits.errors import OptionError
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.calls import one_row

PATCH_BYTES = 128 << 20  # of one layer's streams and patterns over all writers that run together

AtPatterns = list[Float[Tensor, "batch head pos pos"]]  # gradients, by layer


def score_batch(problem: Problem, grad_drop: bool) -> Float[Tensor, "src dest"]:
    """Scores of all edges.

    Raises:
        OptionError: `grad_drop` where there is no other layer to skip.
    """
    arch = problem.adapter.architecture
    if grad_drop and arch.n_layers < 2:
        raise OptionError(
            f"grad_drop=True skips one layer of several, and {arch.model!r} has {arch.n_layers}: "
            "leave it out"
        )
    problem = replace(problem, patterns=True, attn_outputs=grad_drop)
    run, skipped = problem.clean, [*range(arch.n_layers)] if grad_drop else [None]
    leaves, saes = problem.leaves(run, problem.graph)
    total, at_patterns, kept = problem.zeros(), list[AtPatterns](), dict[Block, Tensor]()
    for layer in skipped:
        slopes = _slopes(problem, run, leaves, layer)
        at_patterns.append([slopes.pop(place) for place in _patterns(run)])
        gradients = problem.gradients_from(slopes, run, saes)
        total += _sizes(problem, gradients, kept) if grad_drop else problem.score(gradients)
    if problem.graph.splits_kv:  # there the patterns are made of copies of the keys
        run = problem.run(problem.batch.clean, grad=True, split_kv=False)
        at_patterns = [[*_slopes(problem, run, {}, layer).values()] for layer in skipped]
    with torch.no_grad():
        for columns, scores in _Patched(problem, run, at_patterns, grad_drop).scores():
            total[:, columns] = scores
    return total / _passes(problem).to(total) if grad_drop else total


def _patterns(run: Run) -> dict[Place, Tensor]:
    return {("pattern", layer): pattern for layer, pattern in enumerate(run.reads.patterns)}


def _slopes(
    problem: Problem, run: Run, leaves: dict[Place, Tensor], layer: int | None
) -> dict[Place, Tensor]:
    """Gradients at some tensors and at all patterns, of a pass that skips a layer, if any."""
    with _skipped(run, layer):
        return problem.slopes(run, {**leaves, **_patterns(run)}, again=layer is not None)


@contextmanager
def _skipped(run: Run, layer: int | None) -> Iterator[None]:
    """Inside, no gradient of a run goes back through a layer's attention and MLP."""
    outputs = [run.reads.outputs.get(f"{part}{layer}") for part in "am"]
    handles = [x.register_hook(torch.zeros_like) for x in outputs if x is not None]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sizes(
    problem: Problem, gradients: Gradients, kept: dict[Block, Tensor]
) -> Float[Tensor, "src dest"]:
    """The size of each example's score, summed over the batch."""
    pos, ends = problem.batch.clean.shape[1], (problem.saes, problem.change, gradients)
    total = problem.zeros()
    for i, length in enumerate(problem.batch.lengths.tolist()):
        tokens = torch.arange(i * pos, i * pos + length, device=total.device)
        how = (problem.adapter, problem.graph, *ends, tokens, kept, problem.space)
        total += score_edges(*how).abs()
    return total


def _passes(problem: Problem) -> Float[Tensor, "dest"]:
    """How many of the passes do not skip each reader's own layer."""
    n_layers = problem.adapter.architecture.n_layers

    def inside(reader: Block) -> bool:
        return reader.layer is not None and reader.site not in ("pre", "mid", "post")

    readers = problem.graph.readers
    return torch.tensor([float(n_layers - inside(b)) for b in readers for _ in range(len(b))])


@dataclass(frozen=True, eq=False)
class _Patched:
    """Patterns with one writer's change in what a layer's queries, or its keys, see.

    Args:
        run: clean, with its patterns.
        at_patterns: the gradient there, for each pass.
        sizes: sum the sizes of the examples' scores, over all passes.
    """

    problem: Problem
    run: Run
    at_patterns: list[AtPatterns]
    sizes: bool

    def scores(self) -> Iterator[tuple[slice, Float[Tensor, "src dest"]]]:
        """The columns of each block of queries or keys, and its scores."""
        graph, arch = self.problem.graph, self.problem.adapter.architecture
        for layer in range(arch.n_layers):
            found = [
                (slice(start, start + len(block)), block, self.problem.zeros()[:, : len(block)])
                for start, block in graph.dest_starts.values()
                if block.layer == layer and block.port in ("q", "k")
            ]
            for ids, d in self._changes(layer) if found else ():
                for _, block, scores in found:
                    scores[ids] = self._effect(block, self._moved(block, d))
            yield from ((columns, scores) for columns, _, scores in found)

    def _changes(self, layer: int) -> Iterator[tuple[slice, Float[Tensor, "src token d_model"]]]:
        """What the writers that a layer's heads see change, a few at a time."""
        problem, arch = self.problem, self.problem.adapter.architecture
        batch, pos = problem.batch.clean.shape
        row = batch * pos * (6 * arch.d_model + 4 * arch.n_heads * pos) * 8
        every = torch.arange(batch * pos, device=problem.adapter.device)
        saes = {placed.name: placed for placed in problem.saes}
        depth = next(b.depth for b in problem.graph.readers if (b.layer, b.port) == (layer, "q"))
        seen, at_once = problem.graph.sees(depth), max(1, problem.within(PATCH_BYTES) // row)
        return each_write(
            problem.adapter, problem.graph, saes, problem.change, every, seen, at_once
        )

    def _moved(
        self, reader: Block, d: Float[Tensor, "src token d_model"]
    ) -> Float[Tensor, "src batch head pos pos"]:
        """How the patterns of a reader's layer change with what it reads."""
        adapter, reads, layer = self.problem.adapter, self.run.reads, reader.layer
        assert layer is not None
        assert reader.port is not None
        stream, n = reads.attn_stream[layer], len(d)
        rows = (stream + d.to(stream.dtype).unflatten(1, stream.shape[:2])).flatten(0, 1)
        ports = {port: adapter.by_head(getattr(reads, port)[layer].detach()) for port in ("q", "k")}
        heads = list(range(ports[reader.port].shape[2]))
        read = adapter.read(layer, rows).expand(len(heads), *rows.shape)
        new = {port: x.repeat(n, 1, 1, 1) for port, x in ports.items() if port != reader.port}
        new[reader.port] = adapter.projection(layer, reader.port, heads)(read).movedim(0, 2)
        call = one_row(self.run.calls[layer], len(stream))
        pattern = adapter.pattern(layer, call, **new)
        return pattern.unflatten(0, (n, -1)) - reads.patterns[layer].detach()

    def _effect(
        self, reader: Block, moved: Float[Tensor, "src batch head pos pos"]
    ) -> Float[Tensor, "src dest"]:
        """The change of patterns times the gradient there, of each reader of a block."""
        assert reader.layer is not None
        g = torch.stack([layers[reader.layer] for layers in self.at_patterns])
        effect = torch.einsum("sbhij,xbhij->xbsh", moved.to(g.dtype), g).double()
        if reader.kind == "kv":  # all that share the key
            effect = effect.unflatten(-1, (self.problem.adapter.architecture.n_kv_heads, -1)).sum(
                -1
            )
        effect = effect.abs() if self.sizes else effect
        return effect.sum((0, 1))[:, list(reader.members)]


def passes(graph: TensorGraph, grad_drop: bool) -> Passes:
    """A gradient, or one for each layer that is skipped, and the patterns' own."""
    n, runs = graph.architecture.n_layers if grad_drop else 1, 1 + graph.splits_kv
    return Passes(
        forward=1,
        gradient=n * runs,
        graphs_of_gradients=runs,
        graphs=runs,
        points=1,
        products=n,
        patterns=2 + n,
        patched=n,
        space=PATCH_BYTES,
        spaces=3,
    )


METHOD = Method(
    name="atp-star",
    passes=passes,
    score_batch=score_batch,
    reference="arXiv 2403.00745",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={"grad_drop": False},
    levels=("edges",),
)
