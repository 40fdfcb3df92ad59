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
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation.batches import default_batch_size
from sae_circuits.cache import check_model
from sae_circuits.connectome.ways import Work
from sae_circuits.errors import DictionaryError, GraphError, OptionError, unknown
from sae_circuits.graph import Node, PairScores, TensorGraph, depth_of, parse_node
from sae_circuits.graph.scores import Provenance
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.tasks import Task
from sae_circuits.tasks.prompts import Prompts, as_task

if TYPE_CHECKING:
    import pandas

METHODS = ("direct", "total", "patching")
REFERENCES = ("zero", "mean", "corrupt")


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
            a skip term. Of "total" alone, and where they are set to zero or corrupt values.
        active: the target's activation, summed over tokens, as a mean over prompts.
        graphs: by dictionary, the graph of it and the target's.
        neuronpedia: ids on Neuronpedia of the dictionaries that it hosts, the target's too.
    """

    target: str
    method: str
    reference: str
    values: Mapping[str, Float[Tensor, "feature"]]
    errors: Mapping[str, float]
    active: float
    graphs: Mapping[str, TensorGraph]
    neuronpedia: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        """The value of one feature, or of one error node, by its name.

        Raises:
            GraphError: none of that name.
        """
        node = parse_node(name)
        own = f"{node.site}{node.layer}"
        if own in self.errors and node.kind == "error":
            return self.errors[own]
        index = node.index
        if node.kind != "feature" or own not in self.values or index is None:
            raise GraphError(f"{name!r} is no feature of {', '.join(self.values)}")
        if not 0 <= index < len(self.values[own]):
            raise GraphError(f"{name!r}: {own} has features 0 to {len(self.values[own]) - 1}")
        return float(self.values[own][index])

    def top(self, n: int = 10) -> list[tuple[str, float]]:
        """The names and the values of the n features that change most, the largest by size first.

        Those that change nothing are left out.
        """
        found = [
            (f"{name}.f{i}", float(values[i]))
            for name, values in self.values.items()
            for i in values.nan_to_num().abs().topk(min(n, len(values))).indices.tolist()
            if values[i]
        ]
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

        rows = self.top(sum(map(len, self.values.values())))
        same = {"target": self.target, "method": self.method}
        return rows_table([{"source": name, **same, "value": value} for name, value in rows])

    def __repr__(self) -> str:
        n = sum(int((v.nan_to_num() != 0).sum()) for v in self.values.values())
        names = ", ".join(self.values)
        return f"Connections({self.method}: {n:,} features of {names} to {self.target})"


def connections(
    model: Any,
    target: Node | str,
    saes: Sequence[Dictionary],
    prompts: Prompts,
    *,
    method: str = "total",
    reference: str | float = "zero",
    steps: int | None = None,
    features: Sequence[Node | str] | None = None,
    positions: Sequence[int] | None = None,
    prepend_bos: bool = True,
    batch_size: int | None = None,
) -> Connections:
    """How upstream features change a target feature.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        target: a feature of one of the dictionaries, such as "m3.f17".
        saes: dictionaries; those that write before the target reads are upstream.
        prompts: a task, one text or several, or token ids [pos] or [n, pos].
        method: "direct", "total" or "patching".
        reference: what upstream features are set to: "zero", "mean" over the prompts' tokens,
            "corrupt" for what they are on a task's corrupt prompts, or a number, at real tokens.
        steps: of an integral over gradients, as all features of a dictionary go together from
            what they are to what they are set to, at midpoints; without it, the gradient at the
            clean run alone. Of `total`.
        features: upstream features to patch; without it, all that are active. Of `patching` alone.
        positions: of upstream features, where they are set; without it, everywhere.
        prepend_bos: whether texts begin with the beginning-of-sequence token, if there is one.
        batch_size: prompts, or patched copies of them, at a time.

    Raises:
        GraphError: the target is no feature of these dictionaries, or none writes before it; a
            feature to patch that is not upstream.
        DictionaryError: the target is active on none of the prompts.
        OptionError: an unknown method or reference; an option of another method; a position
            outside of the prompts.
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
    adapter = Adapter.of(model)
    node = parse_node(target) if isinstance(target, str) else target
    _require(method, reference, steps, features, prompts)
    ends, graphs = _placed(adapter, node, saes)
    task = as_task(model, prompts, prepend_bos=prepend_bos)
    task.check_fits(context=adapter.architecture.n_ctx, vocabulary=adapter.architecture.d_vocab)
    _require_positions(positions, int(task.lengths.min()))
    check_model(adapter, task.clean)
    assert node.index is not None
    work = Work(adapter, ends[:-1], ends[-1], node.index, task, reference, positions, steps)
    size = batch_size or default_batch_size(
        adapter.architecture, task, sum(one.dictionary.n_features for one in ends)
    )
    asked = None if features is None else _asked(features, work.sources)
    values, errors, active = work.run(method, size, asked)
    if not active:
        raise DictionaryError(
            f"{node.name!r} is active on none of the {len(task)} prompts, so nothing drives it "
            "there: give prompts on which it fires (a store's examples name some)"
        )
    said = reference if isinstance(reference, str) else f"{reference:g}"
    hosted = {one.name: id for one in ends if (id := one.dictionary.neuronpedia) is not None}
    return Connections(node.name, method, said, values, errors, active, graphs, hosted)


# -- what is asked for -----------------------------------------------------------------------------


def _require(method: str, reference: Any, steps: Any, features: Any, prompts: Any) -> None:
    if method not in METHODS:
        raise OptionError(unknown("method", method, METHODS).args[0])
    if isinstance(reference, str) and reference not in REFERENCES:
        raise OptionError(unknown("reference", reference, REFERENCES).args[0])
    if not isinstance(reference, str) and not abs(float(reference)) < float("inf"):
        raise OptionError(f"reference={reference}: give a finite number, {', '.join(REFERENCES)}")
    if reference == "corrupt" and not isinstance(prompts, Task):
        raise OptionError("reference='corrupt' needs corrupt prompts: give a task")
    if steps is not None and (method != "total" or not isinstance(steps, int) or steps < 1):
        raise OptionError(f"steps={steps}: give 1 or more, for method='total'")
    if features is not None and method != "patching":
        raise OptionError(f"features= goes with method='patching'; {method!r} gives all at once")


def _require_positions(positions: Sequence[int] | None, shortest: int) -> None:
    for position in positions or ():
        if not 0 <= position < shortest:
            raise OptionError(
                f"position {position} lies outside the shortest prompt, of {shortest} tokens"
            )


def _placed(
    adapter: Adapter, target: Node, saes: Sequence[Dictionary]
) -> tuple[list[Placed], dict[str, TensorGraph]]:
    """Upstream dictionaries in their places, the target's last; and the graph of each with it."""
    each = {}
    for sae in saes:
        graph = TensorGraph.from_model(adapter.model, saes=[sae], through=True)
        (placed,) = Placed.all_of(adapter, graph)
        each[placed.name] = placed
    own = each.pop(f"{target.site}{target.layer}", None)
    if own is None or target.kind != "feature" or target.pos is not None:
        known = ", ".join(each) or "none"
        raise GraphError(
            f"{target.name!r} is no feature of the dictionaries given ({known}): give the "
            "target's own among saes, and name it like 'm3.f17'"
        )
    if target.index is None or not 0 <= target.index < own.dictionary.n_features:
        raise GraphError(
            f"{target.name!r}: {own.dictionary!r} has features 0 to {own.dictionary.n_features - 1}"
        )
    arch = adapter.architecture

    def depth(placed: Placed) -> int:
        return depth_of(arch, "feature", placed.layer, placed.part)

    graphs = {}
    for name, one in each.items():
        pair = [one.dictionary, own.dictionary]
        if depth(one) < depth(own):
            graphs[name] = TensorGraph.from_model(adapter.model, saes=pair, through=True)
    if not graphs:
        raise GraphError(
            f"nothing given writes before {target.name!r} reads: give dictionaries of earlier "
            "places"
        )
    return [*sorted((each[name] for name in graphs), key=depth), own], graphs


def _asked(features: Sequence[Node | str], sources: Sequence[Placed]) -> dict[str, list[int]]:
    """Features to patch, by dictionary."""
    sizes = {one.name: one.dictionary.n_features for one in sources}
    found: dict[str, list[int]] = {name: [] for name in sizes}
    for name in features:
        node = parse_node(name) if isinstance(name, str) else name
        own = f"{node.site}{node.layer}"
        index = node.index
        if node.kind != "feature" or own not in sizes or index is None or not index < sizes[own]:
            raise GraphError(f"{node.name!r} is no feature upstream, of {', '.join(sizes)}")
        found[own].append(index)
    return found
