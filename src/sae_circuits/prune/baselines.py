"""Random circuits that have something in common with a given one, to compare it with."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import overload

import torch

from sae_circuits.graph import Circuit, SpanCircuit

TRADES = 10  # pairs of readers that trade sources, in units of the number of readers


@overload
def random_circuit(like: Circuit, *, seed: int = ..., degrees: bool = ...) -> Circuit: ...
@overload
def random_circuit(like: SpanCircuit, *, seed: int = ..., degrees: bool = ...) -> SpanCircuit: ...
def random_circuit(
    like: Circuit | SpanCircuit, *, seed: int = 0, degrees: bool = False
) -> Circuit | SpanCircuit:
    """Draw as many edges as a circuit has, or edges that leave each node as many in and out.

    With `degrees`, pairs of readers trade sources, again and again: of the sources that one of the
    two has in the circuit and that both see, each keeps as many as it had, drawn evenly. So every
    writer keeps its number of edges out and every reader its number of edges in (a head's q, k and
    v apart), every edge is one of the graph, and each trade is as likely as its reverse. Where a
    circuit leaves no trade to make, it comes back as it is.

    Args:
        like: the circuit whose number of edges, or degrees, is kept; of a circuit by span, the
            number of pairs of a span and an edge, or the degrees at each span.
        seed: circuits of one seed and growing size are nested, but not with `degrees`.
        degrees: keep every node's number of edges, and not only that of the whole circuit.

    >>> from sae_circuits.graph import Architecture, TensorGraph
    >>> graph = TensorGraph.from_model(Architecture("tiny", 2, 2, 2, 8, 4, 10, 16))
    >>> circuit = Circuit.from_edges(graph, ["input->m0", "m0->a1.h0<q>", "a0.h1->logits"])
    >>> [edge.name for edge in random_circuit(circuit, degrees=True).edges]
    ['a0.h1->m0', 'input->a1.h0<q>', 'm0->logits']
    >>> len(random_circuit(circuit))
    3

    Reference: Strona et al. 2014, Nature Communications 5:4114 (the curveball trades).
    """
    if isinstance(like, SpanCircuit):
        return _by_span(like, seed, degrees=degrees)
    graph, mask = like.graph, like.mask
    if not degrees:
        order = torch.randperm(graph.n_edges, generator=torch.Generator().manual_seed(seed))
        chosen = order >= graph.n_edges - len(like)
    else:
        sources = _traded(like, random.Random(seed))
        ids = [
            first + src - start
            for first, (start, _), own in zip(
                graph.offsets.tolist(), graph.seen.tolist(), sources, strict=False
            )
            for src in own
        ]
        chosen = torch.zeros(graph.n_edges, dtype=torch.bool)
        chosen[torch.tensor(ids, dtype=torch.int64)] = True
    return Circuit(graph, chosen.to(mask.device))


def _by_span(like: SpanCircuit, seed: int, *, degrees: bool) -> SpanCircuit:
    if degrees:
        draw = random.Random(seed)
        parts = {
            name: random_circuit(part, seed=draw.getrandbits(32), degrees=True)
            for name, part in like.parts.items()
        }
        return SpanCircuit(parts, like.spans)
    n = like.mask.numel()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return replace(like.with_mask((order >= n - len(like)).view(like.mask.shape)), scores=None)


def _traded(circuit: Circuit, draw: random.Random) -> list[set[int]]:
    """For each reader the sources that it has after many trades."""
    graph = circuit.graph
    src, dest = graph.ends(circuit.mask.nonzero()[:, 0].cpu())
    sources: list[set[int]] = [set() for _ in range(graph.n_dest)]
    for s, d in zip(src.tolist(), dest.tolist(), strict=True):
        sources[d].add(s)
    seen = [range(start, stop) for start, stop in graph.seen.tolist()]
    readers = [d for d, own in enumerate(sources) if own]
    for _ in range(TRADES * len(readers) if len(readers) > 1 else 0):
        one, other = draw.sample(readers, 2)
        ours = [s for s in sources[one] - sources[other] if s in seen[other]]
        theirs = [s for s in sources[other] - sources[one] if s in seen[one]]
        if not ours or not theirs:
            continue
        pool = sorted(ours + theirs)
        mine = set(draw.sample(pool, len(ours)))
        sources[one] = (sources[one] - set(ours)) | mine
        sources[other] = (sources[other] - set(theirs)) | (set(pool) - mine)
    return sources
