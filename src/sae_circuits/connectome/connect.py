"""`connections`: which features drive a feature, and by how much, in three ways.

With a_u(t) the activation of an upstream feature at a token t, a'_u(t) the value that it is set to,
D_u = a' - a, w_u what a unit of it adds where it writes, and f the target's activation summed over
tokens,

    patching   f(all recomputed with D_u w_u added) - f
    total      sum_t D_u(t) (w_u . df/dx(t)),   x what stands where u writes
    direct     the same, x the stream that the target reads, and w_u as it stands in the stream

so that the first is exact, the second its first order through everything in between, and the third
the part of that which passes along the residual stream alone. In `direct` a norm before the target
is linearised; a target that reads what heads or an MLP write is reached through these, with
attention patterns held as they are. All are means over prompts, in units of the target's
activation; where a feature drives the target, taking it away lowers that, so its value is negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.connectome.asked import METHODS, REFERENCES, prepared, said
from sae_circuits.connectome.components import Component
from sae_circuits.connectome.job import run
from sae_circuits.connectome.work import Reference
from sae_circuits.errors import DictionaryError, GraphError, require, unknown
from sae_circuits.graph import Node, PairScores, TensorGraph, parse_node
from sae_circuits.graph.scores import Provenance
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.shards import Means, Workers
from sae_circuits.sizes import Memory
from sae_circuits.tasks.prompts import Prompts

if TYPE_CHECKING:
    import pandas

__all__ = ["METHODS", "REFERENCES", "Connections", "connections"]


@dataclass(frozen=True, eq=False)
class Connections:
    """How the features of some dictionaries change a target, and by how much.

    Args:
        target: the name of the feature, such as "m3.f17".
        method: "direct", "total" or "patching".
        reference: what upstream features are set to.
        values: by dictionary, such as "m1", of each of its features; of patching, NaN where a
            feature was not asked for.
        errors: by dictionary, what all changes that its features do not write: its error node, and
            a skip term. Of "total" alone, and where they are set to zero, to corrupt values or to a
            multiple.
        active: the target's activation, summed over tokens, as a mean over prompts.
        graphs: by dictionary, the graph of it and the target's.
        components: by name, such as "a0.h3" and "m1", of each head and MLP that was asked for.
        neuronpedia: ids on Neuronpedia of the dictionaries that it hosts, the target's too.
    """

    target: str
    method: str
    reference: str
    values: Mapping[str, Float[Tensor, "feature"]]
    errors: Mapping[str, float]
    active: float
    graphs: Mapping[str, TensorGraph]
    components: Mapping[str, float] = field(default_factory=dict)
    neuronpedia: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        """The value of one feature, one error node or one component, by its name.

        Raises:
            GraphError: none of that name.
        """
        node = parse_node(name)
        own = f"{node.site}{node.layer}"
        if own in self.errors and node.kind == "error":
            return self.errors[own]
        if node.name in self.components:
            return self.components[node.name]
        index = node.index
        if node.kind != "feature" or own not in self.values or index is None:
            have = ", ".join([*self.values, *self.components])
            raise GraphError(f"{name!r} is no feature of {have}")
        if not 0 <= index < len(self.values[own]):
            raise GraphError(f"{name!r}: {own} has features 0 to {len(self.values[own]) - 1}")
        return float(self.values[own][index])

    def top(self, n: int = 10) -> list[tuple[str, float]]:
        """The names and the values of the n that change the target most, the largest by size first.

        Those that change nothing are left out.
        """
        found = [
            (f"{name}.f{i}", float(values[i]))
            for name, values in self.values.items()
            for i in values.nan_to_num().abs().topk(min(n, len(values))).indices.tolist()
            if values[i]
        ]
        found += [(name, value) for name, value in self.components.items() if value]
        return sorted(found, key=lambda one: -abs(one[1]))[:n]

    def scores(self, name: str) -> PairScores:
        """The edges from one dictionary's features to the target, as scores of a graph.

        Raises:
            UnknownName: no such dictionary.
        """
        if name not in self.values:
            raise unknown("dictionary", name, self.values)
        graph, values = self.graphs[name], self.values[name]
        target = parse_node(self.target)
        kept = (values.nan_to_num() != 0).nonzero()[:, 0]
        edges = [f"{name}.f{i}->{target.name}" for i in kept.tolist()]
        ids = torch.tensor([graph.edge_id(edge) for edge in edges], dtype=torch.int64)
        order = ids.argsort()
        made = Provenance(method=f"{self.method} connections", metric=self.target)
        return PairScores(graph, ids[order], values[kept][order], made, self.method != "patching")

    def to_pandas(self) -> pandas.DataFrame:
        """A table with columns `source`, `target`, `method`, `value`: those that are not 0."""
        from sae_circuits.graph.tables import rows_table

        rows = self.top(len(self.components) + sum(map(len, self.values.values())))
        same = {"target": self.target, "method": self.method}
        return rows_table([{"source": name, **same, "value": value} for name, value in rows])

    def __repr__(self) -> str:
        n = sum(int((v.nan_to_num() != 0).sum()) for v in self.values.values())
        parts = [f"{n:,} features of {', '.join(self.values)}"] if self.values else []
        parts += [f"{len(self.components):,} components"] if self.components else []
        return f"Connections({self.method}: {' and '.join(parts)} to {self.target})"


def connections(
    model: Any,
    target: Node | str,
    saes: Sequence[Dictionary],
    prompts: Prompts,
    *,
    method: str = "total",
    reference: Reference = "zero",
    steps: int | None = None,
    features: Sequence[Node | str] | None = None,
    components: Sequence[Node | str] | str = (),
    through: str | None = None,
    positions: Sequence[int] | None = None,
    prepend_bos: bool = True,
    batch_size: int | None = None,
    memory: Memory | None = None,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> Connections:
    """How upstream features, heads and MLPs change a target feature.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        target: a feature of one of the dictionaries, such as "m3.f17".
        saes: dictionaries; those that write before the target reads are upstream.
        prompts: a task, one text or several, or token ids [pos] or [n, pos].
        method: "direct", "total" or "patching".
        reference: what upstream features are set to: "zero", "mean" over the prompts' tokens,
            "corrupt" for what they are on a task's corrupt prompts, a number, or ("scale", c) for
            c times what they are, at real tokens.
        steps: of an integral over gradients, as all features of a dictionary go together from
            what they are to what they are set to, at midpoints; without it, the gradient at the
            clean run alone. Of `total`.
        features: upstream features to patch; without it, all that are active. Of `patching` alone.
        components: heads and MLPs, such as "a0.h3" and "m1", whose whole output is set to the
            reference, beside features; "all" for all that write before the target reads.
        through: the heads or the MLP of a layer, such as "a3" or "m3": the way goes from the stream
            that they read through them, patterns held as they are, and along the stream to the
            target. Of `direct` alone, which without it is the way along the stream.
        positions: of upstream features, where they are set; without it, everywhere.
        prepend_bos: whether texts begin with the beginning-of-sequence token, if there is one.
        batch_size: prompts, or patched copies of them, at a time.
        memory: to stay under beside the model's weights, as in `attribute`.
        workers, folder: as in `attribute`; shards are of prompts.

    Raises:
        GraphError: the target is no feature of these dictionaries, or none writes before it; a
            feature to patch that is not upstream; a component that does not lie before it.
        DictionaryError: the target is active on none of the prompts.
        UnknownName: an unknown method or reference.
        OptionError: an option of another method; a number that components cannot be set to; a
            position outside of the prompts.
        TaskError, ContextError: prompts that the model cannot read.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> found = sc.connections(model, "post1.f228", saes, task, method="direct")
        >>> found.method, found.target
        ('direct', 'post1.f228')
    """
    node = parse_node(target) if isinstance(target, str) else target
    require("target", node, Node, "a feature by its name, such as 'post1.f131'")
    if node.kind != "feature" or node.pos is not None or node.index is None:
        raise GraphError(f"{node.name!r} is no feature: name the target like 'm3.f17'")
    own = f"{node.site}{node.layer}"
    work, graphs = prepared(
        model, own, [node.index], saes, prompts, method=method, reference=reference, steps=steps,
        features=features, components=components, through=through, positions=positions,
        prepend_bos=prepend_bos, batch_size=batch_size, memory=memory,
    )  # fmt: skip
    sums, errors, active = run(work, method, Means(workers, folder))
    if not active:
        raise DictionaryError(
            f"{node.name!r} is active on none of the {len(work.task)} prompts, so nothing drives "
            "it there: give prompts on which it fires (a store's examples name some)"
        )
    values, whole = dict[str, torch.Tensor](), dict[str, float]()
    for source in work.sources:
        found = sums[source.name]
        if isinstance(source, Component):
            each = torch.zeros(len(source.members), dtype=torch.float64)
            each[found.keys] = found.values
            whole |= dict(zip(source.members, each.tolist(), strict=True))
            continue
        n = source.dictionary.n_features
        each = torch.full((n,), 0.0 if work.asked is None else torch.nan, dtype=torch.float64)
        if work.asked is not None:
            each[work.asked[source.name]] = 0.0
        each[found.keys] = found.values
        values[source.name] = each
    dictionaries = [*(s for s in work.sources if not isinstance(s, Component)), work.target]
    hosted = {s.name: id for s in dictionaries if (id := s.dictionary.neuronpedia) is not None}
    wrong = {name: float(x) for name, x in errors.items()}
    how = said(reference)
    return Connections(node.name, method, how, values, wrong, float(active), graphs, whole, hosted)
