"""What a model with a known circuit is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sae_circuits.attribution import Method, attribute
from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.metrics import Metric, logit_diff
from sae_circuits.tasks import Task


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """A model whose circuit for a task is known, because its weights were set by hand.

    Args:
        name: in the list of `truths`.
        model: a `HookedTransformer` in float64.
        task: what it does, and what breaks it.
        graph: of all its heads and MLPs.
        circuit: the true edges. Where no other part leaks into the output (`eps=0`), no other edge
            changes the logits.
        metric: that the task is measured with.
        effects: the exact score of every edge, where it has a closed form.
        options: the dials that the model was made with.
    """

    name: str
    model: Any
    task: Task
    graph: TensorGraph
    circuit: Circuit
    metric: Metric = logit_diff
    effects: Scores | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, model: Any, task: Task, edges: Iterable[str]) -> GroundTruth:
        """The model's graph, and the circuit of the named edges."""
        graph = TensorGraph.from_model(model)
        return cls(name, model, task, graph, Circuit.from_edges(graph, edges))

    def scores(self, method: str | Method, **options: Any) -> Scores:
        """What a method gives here; `options` are those of `attribute`."""
        options = {"metric": self.metric, **options}
        return attribute(self.model, self.graph, self.task, method=method, **options)

    def __repr__(self) -> str:
        dials = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return (
            f"GroundTruth({self.name!r}{dials}: {len(self.circuit)} of {self.graph.n_edges} edges)"
        )
