"""`attribute_nodes`: a score for every writer, in one pass, however many features there are.

    score(u) = sum_t d_u[t] . g_u[t]

with g_u the gradient at the stream where u writes: the sum of the scores of all edges that leave u.
It costs no product between writers and readers, so that it is the way to choose, among a
dictionary's tens of thousands of features, those whose edges are worth a look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.ablation.values import Intervening
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import Problem
from sae_circuits.attribution.products import narrow_by_wide
from sae_circuits.attribution.run import find_method, score_task
from sae_circuits.cache import Run
from sae_circuits.cache.expand import expand_writes, take
from sae_circuits.costs.memory import Kind
from sae_circuits.graph import Block, NodeScores, TensorGraph
from sae_circuits.metrics import Metric, get, logit_diff
from sae_circuits.precision import wide_dtype
from sae_circuits.shards import Means, Workers
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task


def attribute_nodes(
    model: Any,
    graph: TensorGraph,
    task: Task,
    *,
    metric: str | Metric = logit_diff,
    method: str | Method = "eap-ig",
    intervention: Intervening = "corrupt",
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    folder: str | Path | None = None,
    **options: Any,
) -> NodeScores:
    """Estimate what corrupting each writer alone would do to the metric.

        score(u) = (dm / du) (u_corrupt - u_clean)

    in the metric's unit, summed over positions, mean over examples: an activation's change times
    its gradient, or its integrated gradient.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        graph: whose writers to score, such as one with whole dictionaries.
        task, metric, intervention, batch_size, memory, seed, workers, folder: as in `attribute`.
        method: a rule over gradients, such as "eap" or "eap-ig".
        options: of the method, such as `steps=5`.

    Raises:
        OptionError: a method that is defined for edges only.
        GraphError, MetricError, NumericalError and others: as in `attribute`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> graph = sc.TensorGraph.from_model(model, saes=sc.load_saes("demo"))
        >>> nodes = sc.attribute_nodes(model, graph, task, method="eap")
        >>> graph.restrict(nodes.features(50)).n_src  # the input, 50 features, 12 error nodes
        63
    """
    chosen = find_method(method)
    chosen.require_level("nodes")
    total, made = score_task(
        NodeProblem,
        model,
        graph,
        task,
        metric=get(metric),
        method=chosen,
        intervention=intervention,
        batch_size=batch_size,
        memory=memory,
        seed=seed,
        options=options,
        means=Means(workers, folder),
    )
    return NodeScores(graph, total[:, 0], made)


@dataclass(frozen=True, eq=False)
class Slopes:
    """The metric's gradient where writers write, [batch, pos, d_model] by the names of `Writes`."""

    at: Mapping[str, Tensor]

    def __add__(self, other: Slopes) -> Slopes:
        return Slopes({name: g + other.at[name] for name, g in self.at.items()})

    def __rmul__(self, weight: float) -> Slopes:
        return Slopes({name: weight * g for name, g in self.at.items()})


@dataclass(frozen=True)
class NodeProblem(Problem):
    """A batch whose writers are scored: one column of scores, for all readers together."""

    attn_outputs: bool = True
    kind: ClassVar[Kind] = "nodes"

    def gradients(self, of: Run, graph: TensorGraph | None = None) -> Slopes:  # type: ignore[override]
        """The gradient of the metric, summed over the batch, where the writers write."""
        places = {_place(block) for block in (graph or self.graph).writers}
        leaves = {(name, 0): of.reads.outputs[name] for name in sorted(places)}
        return Slopes({name: g for (name, _), g in self.slopes(of, leaves).items()})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scores at some tokens."""
        return self.graph.n_src, 1

    def columns(self, part: TensorGraph) -> slice:
        """The one column."""
        return slice(0, 1)

    def score_at(
        self, tokens: Int64[Tensor, "token"], gradients: Any, graph: TensorGraph
    ) -> Float[Tensor, "src one"]:
        """`change . gradient` of every writer, summed over some tokens."""
        saes = {placed.name: placed for placed in self.saes}
        found = []
        for block in graph.writers:
            g = gradients.at[_place(block)]
            dtype = wide_dtype(g.dtype)
            g = take(g, tokens, dtype)
            if block.is_narrow:
                placed = saes[_place(block)]
                a = take(self.change[f"{placed.name}.f"], tokens, dtype)
                found.append(narrow_by_wide(a, placed.W_dec.to(dtype), g))
            else:
                d = g.new_empty(len(block), *g.shape)
                expand_writes(self.adapter, (block,), saes, self.change, tokens, d)
                found.append(torch.einsum("utd,td->u", d, g))
        return torch.cat(found).double()[:, None]


def _place(block: Block) -> str:
    """The name of the place where the writers of a block write."""
    if block.layer is None:
        return "input"
    return f"{block.site or ('m' if block.kind == 'mlp' else 'a')}{block.layer}"
