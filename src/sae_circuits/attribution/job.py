"""The attribution of a task as a job: sums of scores over shards of its examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic

import torch

from sae_circuits.ablation.interventions import Intervention
from sae_circuits.attribution.flat import require_slope
from sae_circuits.attribution.groups import each_batch, each_example
from sae_circuits.attribution.method import Method
from sae_circuits.attribution.problem import AnyProblem
from sae_circuits.costs.memory import Batching
from sae_circuits.graph import Provenance, TensorGraph
from sae_circuits.metrics import Metric, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.shards import Job, Partial, Shard, fingerprint, shards_of
from sae_circuits.tasks import Task
from sae_circuits.tasks.spans import Spans


@dataclass(frozen=True, eq=False)
class AttributionJob(Job, Generic[AnyProblem]):
    """A method on a task, whose scores are sums over examples.

    Args:
        kind: what a batch is asked for: scores of edges, or of nodes.
        intervention: prepared on the whole task.
        settings: all options of the method.
        cut: examples that go through the model at a time, and bytes of a work space.
        made: how the scores are made.
        spans: of the prompts, where each has scores of its own.
        keep: "example" or "batch" to keep the scores of each.
    """

    kind: type[AnyProblem]
    model: Any
    graph: TensorGraph
    task: Task
    metric: Metric
    method: Method
    settings: Mapping[str, Any]
    intervention: Intervention
    cut: Batching
    made: Provenance
    spans: Spans | None = None
    keep: str | None = None

    name = "attribution"
    unit = "example"

    @property
    def said(self) -> dict[str, Any]:
        """All that decides the scores."""
        graph, made = self.graph, self.made
        constant = self.intervention.constant
        return {
            "kind": self.kind.__name__,
            "model": made.model_id,
            "task": made.task_id,
            "method": made.method,
            "options": fingerprint(made.options),
            "code": fingerprint([self.method.score_batch, self.method.search]),
            "metric": made.metric,
            "metric code": fingerprint(self.metric),
            "intervention": made.intervention,
            "values": fingerprint(None if constant is None else dict(constant.values)),
            "seed": made.seed,
            "batch_size": self.cut.size,
            "space": self.cut.chunk,
            "graph": fingerprint([repr(graph.writers), repr(graph.readers)]),
            "saes": [record.fingerprint for record in graph.records],
            "spans": fingerprint(None if self.spans is None else
                                 [self.spans.names, self.spans.labels]),
            "keep": self.keep,
        }  # fmt: skip

    def check(self) -> None:
        """See that a worker's copy of the model is the one that is meant."""
        Adapter.of(self.model).require_same(self.made.model_id)

    def describe(self, shard: Shard) -> str:
        """The examples, and the first of their prompts."""
        return self.task.describe(shard.start, shard.stop)

    @cached_property
    def shards(self) -> list[Shard]:
        """Batches of examples in a row; all together where a method looks at all."""
        n = len(self.task)
        return [Shard(0, 0, n)] if self.method.search is not None else shards_of(n, self.cut.size)

    def open(self) -> Callable[[Shard], Partial]:
        """The sums over a shard's examples, and of each gradient whether it was flat."""
        adapter = Adapter.of(self.model)
        saes = self.kind.place(adapter, self.graph)

        def work(shard: Shard) -> Partial:
            flat = list[bool]()
            problems = self._problems(adapter, saes, shard, flat)
            found = self._scored(problems)
            return {**found, "flat": torch.tensor(flat)}

        return work

    def require_slope(self, flat: Iterable[bool]) -> None:
        """Refuse a metric that is constant wherever a gradient was taken.

        Raises:
            MetricError: it is.
        """
        require_slope(list(flat), metric_name(self.metric), self.method.name)

    # -- parts -----------------------------------------------------------------------------------

    def _problems(
        self, adapter: Adapter, saes: Any, shard: Shard, flat: list[bool]
    ) -> Iterator[AnyProblem]:
        prepared, size = self.intervention, self.cut.size
        for first in range(shard.start, shard.stop, size):
            batch = prepared.task[first : min(first + size, shard.stop)]
            yield self.kind(
                adapter, self.graph, batch, self.metric, prepared, first, flat, saes=saes,
                spans=self.spans, space=self.cut.chunk,
            )  # fmt: skip

    def _scored(self, problems: Iterator[AnyProblem]) -> dict[str, torch.Tensor]:
        method, settings = self.method, dict(self.settings)
        if method.search is not None:
            return {"total": method.search(list(problems), **settings)}
        if self.keep is None:
            assert method.score_batch is not None  # it is one or the other
            total = None
            for problem in problems:
                score = method.score_batch(problem, **settings)
                total = score if total is None else total + score
            assert total is not None  # a shard is never empty
            return {"total": total}
        groups = each_example if self.keep == "example" else each_batch
        found = [(self.graph.flat(s).cpu(), n) for s, n in groups(problems, method, settings)]
        each, sizes = zip(*found, strict=True)
        return {"each": torch.stack(each), "sizes": torch.tensor(sizes)}
