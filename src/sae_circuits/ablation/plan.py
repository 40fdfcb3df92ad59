"""Which parts of a model a circuit needs to be computed at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Int64
from torch import Tensor

from sae_circuits.graph import Circuit
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.prune import path_mask


@dataclass(frozen=True, eq=False)
class Plan:
    """What a circuit computes: its edges that matter, and the writers that then may change.

    `edges[src, dest]` are the edges whose source differs from its replacement and whose
    destination is read; `writers` the sources whose value is computed.
    """

    edges: Bool[Tensor, "src dest"]
    writers: Bool[Tensor, "src"]

    @classmethod
    def of(
        cls, circuit: Circuit, adapter: Adapter, saes: Sequence[Placed], *, is_run: bool
    ) -> Plan:
        """Work out what to compute.

        Args:
            saes: the graph's dictionaries.
            is_run: the replacement values are those of a run of the model. Then a part that sees
                nothing but replacement values gives its own, and need not be computed; else what
                it gives has to be seen.
        """
        graph = circuit.graph
        present = graph.dense(circuit.mask.cpu(), fill=False)
        if is_run and not coupled(adapter, saes):
            edges = graph.dense(path_mask(graph, circuit.mask.cpu()), fill=False)
            return cls(edges, edges.any(1))
        # Edges into what nothing reads count too; and where the values are no run, whatever is read
        # is computed.
        return cls(present, present.any(1))

    def alive(self, block: slice) -> Int64[Tensor, "writer"]:
        """The ids of a block's writers that are computed."""
        return self.writers[block].nonzero()[:, 0] + block.start

    def changed(self, block: slice) -> Int64[Tensor, "reader"]:
        """The ids of a block's readers that see an edge of the circuit."""
        return self.edges[:, block].any(0).nonzero()[:, 0] + block.start


def coupled(adapter: Adapter, saes: Sequence[Placed]) -> bool:
    """Whether what one writer writes hangs on what others of its site read.

    A post-norm's scale hangs on all heads of its layer, and which features are among the largest on
    all of them.
    """
    layers = range(adapter.architecture.n_layers)
    return any(map(adapter.attn_post_norm, layers)) or any(
        placed.split.reads_stream and placed.dictionary.competes for placed in saes
    )
