"""`pair_connections`: how the features of earlier dictionaries change all those of a later one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.connectome.asked import prepared, said
from sae_circuits.connectome.job import run
from sae_circuits.connectome.work import Reference, Sums, Work
from sae_circuits.errors import DictionaryError, GraphError, unknown
from sae_circuits.graph import Block, Node, PairScores, TensorGraph, parse_edge, parse_node
from sae_circuits.graph.blocks import Key
from sae_circuits.graph.scores import Provenance
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.provenance import provenance_of
from sae_circuits.shards import Means, Workers
from sae_circuits.sizes import Memory
from sae_circuits.tasks.prompts import Prompts

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class PairConnections:
    """How the features of some dictionaries change those of a later one, and by how much.

    Each value is that of `connections` for this target alone.

    Args:
        target: the later dictionary's name, such as "post1".
        method: "direct", "total" or "patching".
        reference: what upstream features are set to.
        pairs: by upstream dictionary, such as "m0", the scores of the edges to the targets.
        active: each target's activation, summed over tokens, as a mean over prompts; 0 for features
            that are no targets.
        asked: by dictionary, upstream or the later one, which of its features were asked for.
    """

    target: str
    method: str
    reference: str
    pairs: Mapping[str, PairScores]
    active: Float[Tensor, "feature"]
    asked: Mapping[str, Sequence[int]]

    def __getitem__(self, name: str) -> float:
        """The value of a pair by its edge's name, such as "m0.f3->post1.f5".

        Raises:
            GraphError: no pair of these dictionaries, or a feature that was not asked for.
        """
        edge = parse_edge(name)
        own = f"{edge.src.site}{edge.src.layer}"
        if own not in self.pairs:
            raise GraphError(
                f"{name!r}: {edge.src.name!r} is no feature of {', '.join(self.pairs)}"
            )
        pairs = self.pairs[own]
        edge_id = pairs.graph.edge_id(edge)
        for node in (edge.src, edge.dest):
            if node.index not in self.asked.get(f"{node.site}{node.layer}", ()):
                raise GraphError(f"{node.name!r} was not asked for")
        at = int(torch.searchsorted(pairs.ids, edge_id))
        held = at < len(pairs) and int(pairs.ids[at]) == edge_id
        return float(pairs.values[at]) if held else 0.0

    def scores(self, name: str) -> PairScores:
        """The edges from one dictionary's features, as scores of a graph of the two.

        Raises:
            UnknownName: no such dictionary.
        """
        if name not in self.pairs:
            raise unknown("dictionary", name, self.pairs)
        return self.pairs[name]

    def top(self, n: int = 10) -> list[tuple[str, float]]:
        """The names and the values of the n strongest pairs, the largest by size first."""
        found = [one for pairs in self.pairs.values() if len(pairs) for one in pairs.top(n)]
        return sorted(found, key=lambda one: -abs(one[1]))[:n]

    def into(self, target: str, n: int = 10) -> list[tuple[str, float]]:
        """The n upstream features that change a target most, and the values.

        Raises:
            GraphError: no feature of the later dictionary.
        """
        node = parse_node(target)
        if node.kind != "feature" or f"{node.site}{node.layer}" != self.target:
            raise GraphError(f"{target!r} is no feature of {self.target}")
        found = [
            one for pairs in self.pairs.values() for one in _strongest(pairs, node, n, into=True)
        ]
        return sorted(found, key=lambda one: -abs(one[1]))[:n]

    def of(self, source: str, n: int = 10) -> list[tuple[str, float]]:
        """The n targets that an upstream feature changes most, and the values.

        Raises:
            GraphError: no feature of the dictionaries upstream.
        """
        node = parse_node(source)
        own = f"{node.site}{node.layer}"
        if node.kind != "feature" or own not in self.pairs:
            raise GraphError(f"{source!r} is no feature of {', '.join(self.pairs)}")
        return _strongest(self.pairs[own], node, n, into=False)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with columns `source`, `target`, `method`, `value`: those that are not 0."""
        from sae_circuits.features.frames import stacked

        names = {"src": "source", "dest": "target", "score": "value"}
        table = stacked([pairs.to_pandas() for pairs in self.pairs.values()])
        table = table.rename(columns=names)
        table.insert(2, "method", self.method)
        return table

    def __repr__(self) -> str:
        n = sum(map(len, self.pairs.values()))
        names = ", ".join(self.pairs)
        return f"PairConnections({self.method}: {n:,} pairs of {names} and {self.target})"


def pair_connections(
    model: Any,
    target: str | Sequence[Node | str],
    saes: Sequence[Dictionary],
    prompts: Prompts,
    *,
    method: str = "direct",
    reference: Reference = "zero",
    steps: int | None = None,
    features: Sequence[Node | str] | None = None,
    through: str | None = None,
    positions: Sequence[int] | None = None,
    prepend_bos: bool = True,
    batch_size: int | None = None,
    memory: Memory | None = None,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> PairConnections:
    """How upstream features change every feature of a later dictionary, in one call.

    Only features that are active are computed. With `method="direct"` targets that read the stream
    take no backward pass; `total` takes one for each target that is active, and `patching` one run
    for each upstream feature that changes, which all targets read.

    Args:
        target: the name of one of the dictionaries, such as "post1"; or some of its features, such
            as ["post1.f5", "post1.f9"].
        features: upstream features to patch; without it, all that are active. Of `patching` alone.
        model, saes, prompts, method, reference, steps, through, positions, prepend_bos, batch_size,
            memory, workers, folder: as in `connections`.

    Raises:
        GraphError: no such dictionary or feature, features of several dictionaries, or nothing that
            writes before them.
        DictionaryError: no target is active on any of the prompts.
        UnknownName, OptionError, TaskError, ContextError: as in `connections`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> found = sc.pair_connections(model, "post1", saes, task)
        >>> name, value = found.top(1)[0]
        >>> found[name] == value
        True
        >>> few = found.scores("m0").features(20)
        >>> circuit = sc.prune.top_n(found.scores("m0").among(few), 30)
        >>> len(circuit)
        30
    """
    own, chosen = _targets(target)
    work, graphs = prepared(
        model, own, chosen, saes, prompts, method=method, reference=reference, steps=steps,
        features=features, components=(), through=through, positions=positions,
        prepend_bos=prepend_bos, batch_size=batch_size, memory=memory,
    )  # fmt: skip
    sums, _, active = run(work, method, Means(workers, folder))
    if not bool(active.any()):
        raise DictionaryError(
            f"no target of {own!r} is active on any of the {len(work.task)} prompts: give prompts "
            "on which some fire"
        )
    options = {"positions": list(positions)} if positions is not None else {}
    options |= {"through": through} if through is not None else {}
    made = provenance_of(
        work.adapter, work.task, method=f"{method} connections", metric=own,
        intervention=said(reference), options=options,
    )  # fmt: skip
    whole = work.asked is None and chosen is None
    each = {
        source.name: _scores(work, graphs[source.name], source.name, sums[source.name], made, whole)
        for source in work.sources
    }
    every = torch.zeros(work.n_features, dtype=torch.float64)
    every[list(work.target.chosen)] = active
    asked: dict[str, Sequence[int]] = {
        source.name: range(source.dictionary.n_features) for source in work.sources
    }
    asked |= {**(work.asked or {}), own: work.target.chosen}
    return PairConnections(own, method, said(reference), each, every, asked)


def _targets(target: str | Sequence[Node | str]) -> tuple[str, list[int] | None]:
    """The name of the later dictionary, and the features that are asked for."""
    if isinstance(target, str):
        return target, None
    nodes = [parse_node(one) if isinstance(one, str) else one for one in target]
    owners = {f"{node.site}{node.layer}" for node in nodes}
    indices = [node.index for node in nodes if node.kind == "feature" and node.index is not None]
    if len(owners) != 1 or len(indices) != len(nodes):
        raise GraphError(
            f"targets {', '.join(node.name for node in nodes) or '[]'}: give features of one "
            "dictionary, or its name, such as 'post1'"
        )
    return owners.pop(), indices


def _scores(
    work: Work, graph: TensorGraph, name: str, sums: Sums, made: Provenance, whole: bool
) -> PairScores:
    """Sums over pairs as scores of a graph of two dictionaries."""
    src, writers = _features(graph.src_starts, name)
    dest, readers = _features(graph.dest_starts, work.target.name)
    first, n = graph.sees(readers.depth)[0], len(writers)
    v = torch.tensor(list(work.target.chosen))[sums.keys // n]
    ids, order = (graph.offsets[dest + v] + src - first + sums.keys % n).sort()
    return PairScores(graph, ids, sums.values[order], made, whole)


def _features(starts: Mapping[Key, tuple[int, Block]], name: str) -> tuple[int, Block]:
    """The features of a dictionary in a graph, and the index of the first."""
    return next(
        (start, block)
        for start, block in starts.values()
        if block.kind == "feature" and f"{block.site}{block.layer}" == name
    )


def _strongest(pairs: PairScores, node: Node, n: int, *, into: bool) -> list[tuple[str, float]]:
    """The other ends of the edges of a node and their scores, the strongest first."""
    graph = pairs.graph
    start, block = _features(
        graph.dest_starts if into else graph.src_starts, f"{node.site}{node.layer}"
    )
    assert node.index is not None
    if not node.index < len(block):
        raise GraphError(f"{node.name!r}: {node.site}{node.layer} has 0 to {len(block) - 1}")
    src, dest = graph.ends(pairs.ids)
    own = (dest if into else src) == start + node.index
    few = replace(pairs, ids=pairs.ids[own], values=pairs.values[own], is_whole=False)
    ends = [(parse_edge(name), value) for name, value in few.top(n)] if len(few) else []
    return [((edge.src if into else edge.dest).name, value) for edge, value in ends]
