"""Which parts of a model a circuit needs to be computed at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae_circuits.ablation.located import Located
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.prune import path_mask


@dataclass(frozen=True, eq=False)
class Plan:
    """What a circuit computes: its edges that matter, and the writers that then may change.

    `edges[src, dest]` are the edges whose source differs from its replacement and whose
    destination is read; `writers` the sources whose value is computed. In a circuit by span, `at`
    says which of the edges there are at the tokens of each part, and `labels` of which part each
    token is; else they are at all tokens.
    """

    edges: Bool[Tensor, "src dest"]
    writers: Bool[Tensor, "src"]
    at: tuple[Bool[Tensor, "src dest"], ...]
    labels: Int64[Tensor, "token"] | None = None

    @classmethod
    def of(
        cls, circuit: Located, adapter: Adapter, saes: Sequence[Placed], *, is_run: bool
    ) -> Plan:
        """Work out what to compute.

        Args:
            saes: the graph's dictionaries.
            is_run: the replacement values are those of a run of the model. Then a part that sees
                nothing but replacement values gives its own, and need not be computed; else what
                it gives has to be seen.
        """
        graph, masks = circuit.graph, circuit.masks
        anywhere = torch.stack(masks).any(0)
        labels = None if circuit.labels is None else circuit.labels.flatten()
        if is_run and not coupled(adapter, saes):
            # What is on no path of edges that are in anywhere is on none of those at one span.
            anywhere = path_mask(graph, anywhere)
        # Else edges into what nothing reads count too; and where the values are no run, whatever is
        # read is computed.
        edges = graph.dense(anywhere, fill=False)
        at = tuple(graph.dense(mask & anywhere, fill=False) for mask in masks)
        return cls(edges, edges.any(1), at, labels)

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
