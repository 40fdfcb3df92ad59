"""What a method runs on a batch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passes:
    """The runs of a batch, and what is held of them at a time.

    Args:
        forward: runs that keep nothing for gradients.
        gradient: runs with a pass back through them.
        graphs_of_gradients: how many runs these passes back share; None for one run each.
        graphs: how many runs' graphs are held at a time.
        points: how many points' gradients are multiplied together.
        products: how often all writers are multiplied with all readers.
        writes: copies of what the writers write.
        vectors: copies of every writer's vector at every token.
        heads: how often what all heads write is made, beside products.
        patterns: copies of all attention patterns and of their gradients, beside the graph's.
        space: bytes of a work space that can be used.
        spaces: how many times the bytes of a work space are in use.
        tails: whether every edge costs a run from its reader on.
        masks: runs with a mask for every edge, and the pass back; instead of all other products.
        visits: whether every edge costs at most a run of a circuit from its reader on.
        patched: gradients with which every writer's change of the patterns is multiplied.
        planned: whether these numbers say how much is computed, before anything runs.
        whole: all batches of the task are held at a time.
    """

    forward: float = 2
    gradient: float = 1
    graphs_of_gradients: float | None = None
    graphs: float = 2
    points: int = 8
    products: float = 1
    writes: int = 4
    vectors: float = 0
    heads: float = 0
    patterns: float = 0
    space: int = 1 << 40
    spaces: float = 1
    tails: bool = False
    masks: float = 0
    visits: bool = False
    patched: int = 0
    planned: bool = True
    whole: bool = False
