"""Connections between features, of whatever kind, as one list; and what clusters share of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sae_circuits.connectome.connect import Connections
from sae_circuits.errors import DictionaryError, GraphError, NumericalError, OptionError
from sae_circuits.features.numerics.sparse import Rows
from sae_circuits.graph import PairScores, SourceRecord, VirtualWeights
from sae_circuits.graph.blocks import node_at
from sae_circuits.graph.splits import PARTS

Scored = PairScores | VirtualWeights | Connections
"""What holds a value for pairs of features."""


@dataclass(frozen=True, eq=False)
class Links:
    """Values of pairs of features.

    Args:
        names: of all features that stand in a pair, by dictionary and number.
        source, target: their places among the names.
        values: of the pairs, with signs.
        dictionaries: the fingerprint of each, by what its features' names begin with.
    """

    names: tuple[str, ...]
    source: Int64[np.ndarray, "pair"]
    target: Int64[np.ndarray, "pair"]
    values: Float64[np.ndarray, "pair"]
    dictionaries: Mapping[str, str]

    def profiles(self, names: Sequence[str]) -> Rows:
        """The weights of some features, with all partners: see `ByConnections.table`."""
        at, n = {name: i for i, name in enumerate(names)}, len(self.names)
        row = np.array([at.get(name, -1) for name in self.names], dtype=np.int64)
        owner = np.concatenate([row[self.target], row[self.source]])
        place = np.concatenate([self.source, self.target + n])
        values = np.concatenate([self.values, self.values])
        kept = (owner >= 0) & (values != 0)
        order = np.lexsort((place[kept], owner[kept]))
        owner, place, values = (x[kept][order] for x in (owner, place, values))
        starts = np.searchsorted(owner, np.arange(len(names) + 1)).astype(np.int64)
        return Rows(np.arange(len(names)), starts, place, values, 2 * n)

    def among(
        self, names: Sequence[str], group: Int64[np.ndarray, "feature"], n: int
    ) -> tuple[Float64[Tensor, "end end"], Float64[Tensor, "end end"]]:
        """The sums of values, and of their sizes, from each of n groups of features to each.

        Args:
            group: of each named feature; all others are in the last group.
        """
        at = dict(zip(names, group.tolist(), strict=True))
        own = np.array([at.get(name, n - 1) for name in self.names], dtype=np.int64)
        ends = own[self.source], own[self.target]
        found = []
        for values in (self.values, np.abs(self.values)):
            sums = np.zeros((n, n))
            np.add.at(sums, ends, values)
            sums[-1, -1] = 0.0  # what joins two others is no concern of these features
            found.append(torch.from_numpy(sums))
        return found[0], found[1]


def links_of(scores: Any) -> Links:
    """Connections of one kind or several as one list; of a pair that stands in several, the sum.

    Raises:
        OptionError: what holds no connections; `Connections` by several methods, or of one target
            twice; no connection that is not 0.
        GraphError: two dictionaries at one place.
        NumericalError: values that are not finite.
    """
    given = [scores] if isinstance(scores, Scored) else list(scores)
    for one in given:
        if not isinstance(one, Scored):
            raise OptionError(
                f"{type(one).__name__} holds no connections between features: give PairScores, "
                "VirtualWeights, or Connections of several targets"
            )
    connections = [one for one in given if isinstance(one, Connections)]
    if len({one.method for one in connections}) > 1:
        methods = ", ".join(sorted({one.method for one in connections}))
        raise OptionError(f"connections by {methods} do not add up: give those of one method")
    targets = [one.target for one in connections]
    if len(set(targets)) < len(targets):
        raise OptionError("two of the Connections are of one target: give each target once")
    found = [_listed(one) for one in given]
    dictionaries: dict[str, str] = {}
    for _, _, _, records in found:
        for record in records:
            part, known = part_of(record), record.fingerprint
            if dictionaries.setdefault(part, known) != known:
                raise GraphError(f"the scores are of two dictionaries at {part}: give those of one")
    names = [name for src, dest, _, _ in found for name in (*src, *dest)]
    every = tuple(sorted(set(names), key=_order))
    at = {name: i for i, name in enumerate(every)}
    source = np.array([at[name] for src, _, _, _ in found for name in src], dtype=np.int64)
    target = np.array([at[name] for _, dest, _, _ in found for name in dest], dtype=np.int64)
    values = np.concatenate([np.zeros(0), *(one[2].double().cpu().numpy() for one in found)])
    if not np.isfinite(values).all():
        raise NumericalError("connections are not finite: score them again, in another dtype")
    if not values.any():
        raise OptionError("there is no connection that is not 0: nothing to cluster or to share")
    return Links(every, source, target, values, dictionaries)


def part_of(record: SourceRecord) -> str:
    """What the names of a dictionary's features begin with, such as `m3`.

    Raises:
        DictionaryError: one that stands where no graph has features.

    >>> part_of(SourceRecord("t", "mlp_normalized.3", ("mlp_out.3",), 256, "c0ffee"))
    'm3'
    """
    kind, _, layer = record.writes[0].partition(".")
    if kind not in PARTS:
        raise DictionaryError(
            f"{record.name!r} writes at {record.writes[0]}, where no graph has features: take one "
            f"of {', '.join(PARTS)}"
        )
    return f"{PARTS[kind]}{layer}"


def _listed(
    one: Scored,
) -> tuple[list[str], list[str], Tensor, Sequence[SourceRecord]]:
    """Names of sources and of targets, values, and the dictionaries."""
    if isinstance(one, VirtualWeights):
        u, v, values = one.pairs()
        source, target = part_of(one.source), part_of(one.target)
        names = [f"{source}.f{i}" for i in u.tolist()], [f"{target}.f{i}" for i in v.tolist()]
        return *names, values, (one.source, one.target)
    if isinstance(one, Connections):
        records = [record for graph in one.graphs.values() for record in graph.records]
        src = [f"{name}.f{i}" for name, x in one.values.items() for i in range(len(x))]
        every = [torch.zeros(0), *one.values.values()]
        return (
            src,
            [one.target] * len(src),
            torch.cat([x.cpu() for x in every]).nan_to_num(),
            records,
        )
    graph = one.graph
    src, dest = graph.ends(one.ids.cpu())
    named = []
    for starts, ends in ((graph.src_starts, src), (graph.dest_starts, dest)):
        different, places = ends.unique(return_inverse=True)
        own = [node_at(starts, i).component.name for i in different.tolist()]
        named.append([own[i] for i in places.tolist()])
    return named[0], named[1], one.values, graph.records


def _order(name: str) -> tuple[str, int]:
    part, _, number = name.partition(".f")
    return part, int(number or 0)
