"""Virtual weights: what the features of one dictionary write of what those of another read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import GraphError, UnknownName
from sae_circuits.graph.blocks import Block, Key
from sae_circuits.graph.out import Saved
from sae_circuits.graph.pair_scores import PairScores
from sae_circuits.graph.records import SourceRecord
from sae_circuits.graph.scores import Provenance
from sae_circuits.graph.splits import PARTS
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class VirtualWeights(Saved):
    """For each feature of two dictionaries, the strongest of its virtual weights in the other.

    Lists begin with the largest weight by size; of equal ones the lower id comes first. Where a
    feature has fewer weights that are not 0 than a list has places, ids are -1 and values 0.

    Args:
        source, target: records of the dictionaries.
        head: layer and head through whose values and outputs the weights go; None for those along
            the stream alone.
        features: the ids of the target's features that were asked for, ascending.
        into_ids, into_values: for each of those, source features and their weights.
        of_ids, of_values: for each source feature, target features among those, and their weights.

    >>> import sae_circuits as sc
    >>> model, saes = sc.load_model("demo"), sc.load_saes("demo", ["resid_post.0", "transcoder.2"])
    >>> weights = sc.virtual_weights(model, *saes, k=3)
    >>> weights
    VirtualWeights(resid_post.0 -> mlp_normalized.2: 256 by 256 features, the 3 strongest of each)
    >>> len(weights.into(7)), len(weights.of(7))
    (3, 3)
    """

    source: SourceRecord
    target: SourceRecord
    head: tuple[int, int] | None
    features: Int64[Tensor, "target"]
    into_ids: Int64[Tensor, "target k_into"]
    into_values: Float[Tensor, "target k_into"]
    of_ids: Int64[Tensor, "source k_of"]
    of_values: Float[Tensor, "source k_of"]
    provenance: Provenance

    def into(self, feature: int) -> list[tuple[int, float]]:
        """The source features with the strongest weights into a target feature, and the weights.

        Raises:
            UnknownName: a feature that the target lacks, or that was not asked for.
        """
        at = int(torch.searchsorted(self.features, feature))
        if at == len(self.features) or int(self.features[at]) != feature:
            have = f"there are {len(self.features):,} here, of {self.target.n_features:,}"
            raise UnknownName(f"no feature {feature} of {self.target.name!r}: {have}")
        return _listed(self.into_ids[at], self.into_values[at])

    def of(self, feature: int) -> list[tuple[int, float]]:
        """The target features with the strongest weights of a source feature, and the weights.

        Raises:
            UnknownName: a feature that the source lacks.
        """
        if not 0 <= feature < len(self.of_ids):
            raise UnknownName(
                f"no feature {feature} of {self.source.name!r}: there are {len(self.of_ids):,}, "
                f"0 to {len(self.of_ids) - 1}"
            )
        return _listed(self.of_ids[feature], self.of_values[feature])

    def pairs(
        self,
    ) -> tuple[Int64[Tensor, "pair"], Int64[Tensor, "pair"], Float[Tensor, "pair"]]:
        """Source ids, target ids and weights of all pairs in either list, by target and source."""
        u, v = self.into_ids.flatten(), self.features.repeat_interleave(self.into_ids.shape[1])
        every = torch.arange(len(self.of_ids), device=u.device)
        u = torch.cat([u, every.repeat_interleave(self.of_ids.shape[1])])
        v = torch.cat([v, self.of_ids.flatten()])
        weights = torch.cat([self.into_values.flatten(), self.of_values.flatten()])
        there = (u >= 0) & (v >= 0)
        keys, where = (v * len(self.of_ids) + u)[there].unique(return_inverse=True)
        values = weights.new_zeros(len(keys)).index_copy(0, where, weights[there])
        return keys % len(self.of_ids), keys // len(self.of_ids), values

    def scores(self, graph: TensorGraph) -> PairScores:
        """All pairs in either list as scores of a graph's edges: to prune, to draw, to compare.

        A score is the weight: the change of the target's pre-activation per unit of the source's
        activation, along this path, where norms divide by 1.

        Args:
            graph: with both dictionaries; pairs whose features it leaves out are left out.

        Raises:
            GraphError: a graph without one of the dictionaries, or where the target's features do
                not read, or do not see the source's.
        """
        have = {record.fingerprint for record in graph.records}
        for record in (self.source, self.target):
            if record.fingerprint not in have:
                raise GraphError(
                    f"{graph!r} was made without {record.name!r}: make it with both, by "
                    "TensorGraph.from_model(model, saes=[source, target])"
                )
        src_start, writers = _block(graph.src_starts, self.source, "write")
        dest_start, readers = _block(graph.dest_starts, self.target, "read")
        first, stop = graph.sees(readers.depth)
        if not first <= src_start < stop:
            raise GraphError(
                f"{self.target.name!r} does not see {self.source.name!r} in {graph!r}: make a "
                "graph of these two dictionaries"
            )
        u, v, values = (part.cpu() for part in self.pairs())
        src, dest = _places(writers, u), _places(readers, v)
        there = (src >= 0) & (dest >= 0)
        src, dest, values = src[there] + src_start, dest[there] + dest_start, values[there]
        ids, order = (graph.offsets[dest] + src - first).sort()
        return PairScores(graph, ids, values[order], self.provenance, is_whole=False)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with columns `source`, `target`, `weight`: all pairs in either list."""
        from sae_circuits.graph.tables import columns_table

        u, v, values = (part.cpu().numpy() for part in self.pairs())
        return columns_table({"source": u, "target": v, "weight": values})

    def __repr__(self) -> str:
        by = "" if self.head is None else " by a{}.h{}".format(*self.head)
        k = max(self.into_ids.shape[1], self.of_ids.shape[1])
        return (
            f"VirtualWeights({self.source.writes[0]} -> {self.target.reads}{by}: "
            f"{len(self.of_ids):,} by {len(self.features):,} features, the {k} strongest of each)"
        )


def _listed(ids: Int64[Tensor, "k"], values: Float[Tensor, "k"]) -> list[tuple[int, float]]:
    pairs: Iterable[tuple[int, float]] = zip(ids.tolist(), values.tolist(), strict=True)
    return [(i, value) for i, value in pairs if i >= 0]


def _block(
    starts: Mapping[Key, tuple[int, Block]], record: SourceRecord, does: str
) -> tuple[int, Block]:
    """The features of a dictionary in a graph, and the index of the first."""
    kind, _, layer = record.writes[0].partition(".")
    found = starts.get(("feature", int(layer), None, PARTS[kind]))
    if found is None:
        raise GraphError(
            f"the features of {record.name!r} do not {does} in this graph: make one with "
            "TensorGraph.from_model(model, saes=[source, target]), and through=True for features "
            "that read what heads write"
        )
    return found


def _places(block: Block, ids: Int64[Tensor, "pair"]) -> Int64[Tensor, "pair"]:
    """Which features of a block these are; -1 for those that it leaves out."""
    members = torch.tensor(list(block.members), dtype=torch.int64)
    at = torch.searchsorted(members, ids).clamp(max=len(members) - 1)
    return torch.where(members[at] == ids, at, -1)
