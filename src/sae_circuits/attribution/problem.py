"""One batch of an attribution problem, and the gradient of a metric in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.ablation.interventions import Intervention
from sae_circuits.attribution.flat import is_flat
from sae_circuits.attribution.gradients import Gradients, Place
from sae_circuits.attribution.kernel import score_edges
from sae_circuits.cache import Run, Writes, require_finite, run
from sae_circuits.costs.memory import Kind
from sae_circuits.errors import MetricError, NumericalError, OptionError
from sae_circuits.graph import TensorGraph
from sae_circuits.metrics import Metric, Targets, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.backward import OWN, BackwardRules
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.tasks import Task
from sae_circuits.tasks.spans import Spans


@dataclass(frozen=True)
class Problem:
    """A batch with all that a method may ask of it; runs are made when first asked for."""

    adapter: Adapter
    graph: TensorGraph
    batch: Task
    metric: Metric
    intervention: Intervention
    first: int = 0  # the index of the batch's first example in the task, for messages
    flat: list[bool] = field(default_factory=list)  # of each gradient taken: see `flat.is_flat`
    clean_has_graph: bool = True  # False saves memory where no gradient is taken there
    saes: tuple[Placed, ...] = ()  # the graph's dictionaries, in their places
    attn_outputs: bool = False  # keep what each layer's attention adds, for its gradient
    spans: Spans | None = None  # of the prompts, where each has scores of its own
    patterns: bool = False  # keep attention patterns, for their gradient
    rules: BackwardRules = OWN  # of the backward pass
    space: int | None = None  # bytes of a work space; by default as many as are fast
    kind: ClassVar[Kind] = "edges"  # what a batch is asked for, as its cost hangs on it

    @classmethod
    def place(cls, adapter: Adapter, graph: TensorGraph) -> tuple[Placed, ...]:
        """The graph's dictionaries, in the form that such problems take."""
        return Placed.all_of(adapter, graph)

    @cached_property
    def clean(self) -> Run:
        """The clean run."""
        made = self.run(self.batch.clean, grad=self.clean_has_graph)
        require_finite(made.writes, self.first, "the clean run")
        return made

    @cached_property
    def corrupt(self) -> Run:
        """The corrupt run, with its graph."""
        return self.run(self.batch.corrupt, grad=True)

    @cached_property
    def replacement(self) -> Writes:
        """What the writers would write under the intervention."""
        if "corrupt" in self.__dict__ and self.intervention.is_run:
            return self.corrupt.writes
        writes = self.intervention.writes(self.adapter, self.batch, self.saes)
        require_finite(writes, self.first, f"the {self.intervention.name} values")
        return writes

    @cached_property
    def change(self) -> Writes:
        """What the intervention changes in what the writers write."""
        return self.replacement - self.clean.writes

    @cached_property
    def targets(self) -> Targets:
        """The answers of the batch, and the clean logits."""
        return Targets.of(self.batch, self.clean.logits.detach())

    def run(
        self, tokens: Tensor, *, grad: bool, edits: Mapping[str, Tensor] | None = None, **more: Any
    ) -> Run:
        """Run the model on tokens of this batch.

        Args:
            more: what else `cache.run` takes, in place of what this problem says.
        """
        own = {
            "saes": self.saes,
            "split_kv": self.graph.splits_kv,
            "attn_outputs": self.attn_outputs,
            "patterns": self.patterns,
            "rules": self.rules,
        }
        position = self.batch.position
        return run(self.adapter, tokens, position, edits=edits, grad=grad, **{**own, **more})

    def measure(self, logits: Tensor, targets: Targets | None = None) -> Float[Tensor, "batch"]:
        """The metric per example.

        Raises:
            MetricError: not one number per example.
            NumericalError: NaN or infinity.
        """
        value = self.metric(logits, self.targets if targets is None else targets)
        name, n = metric_name(self.metric), len(logits)
        if not isinstance(value, Tensor) or value.shape != (n,):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise MetricError(f"metric {name!r} returned {got}: one number per example, ({n},)")
        if not bool(value.isfinite().all()):
            example = int((~value.isfinite()).nonzero()[0]) % len(self.batch)
            raise NumericalError(
                f"metric {name!r} is not finite for example {self.first + example}: mend the "
                "metric, or leave that example out"
            )
        return value

    def gradients(self, of: Run, graph: TensorGraph | None = None) -> Gradients:
        """The gradient of the metric, summed over the batch, at what the readers made of a run.

        Args:
            graph: ask only for the readers of this graph.

        Raises:
            MetricError: the metric does not depend differentiably on the logits.
            OptionError: features for which the backward pass's rules are not defined.
        """
        leaves, saes = self.leaves(of, graph or self.graph)
        return self.gradients_from(self.slopes(of, leaves), of, saes)

    def gradients_from(
        self, slopes: dict[Place, Tensor], of: Run, saes: tuple[Placed, ...]
    ) -> Gradients:
        """What readers see of the gradients at what they made of a run."""
        bent = [placed.name for placed in saes if not placed.is_linear]
        if self.rules.changes and bent:
            raise OptionError(
                f"{bent[0]}'s features read the stream through a component or a normalisation of "
                "their own, for which this method has no rule: use another, such as 'eap', or "
                "dictionaries that read the stream themselves"
            )
        constant = self.rules.norms_constant
        return Gradients.of(self.adapter, slopes, of, saes, norms_constant=constant)

    def slopes(
        self, of: Run, leaves: dict[Place, Tensor], *, again: bool = False
    ) -> dict[Place, Tensor]:
        """The gradient of the metric, summed over the batch, at some tensors of a run.

        Args:
            again: keep the run's graph, so that more gradients can be taken.
        """
        value = self.measure(of.logits)
        if not value.requires_grad:
            raise MetricError(
                f"metric {metric_name(self.metric)!r} is not differentiable: its value does not "
                "depend on the logits through differentiable operations; attribute with another, "
                "such as logit_diff, and evaluate with this one"
            )
        asked = [of.logits, *leaves.values()]
        slope, *found = torch.autograd.grad(
            value.sum(), asked, allow_unused=True, retain_graph=again
        )
        if slope is not None:
            self.flat.append(is_flat(slope, value.detach(), of.logits, self.measure))
        return {
            place: torch.zeros_like(leaf) if grad is None else grad
            for (place, leaf), grad in zip(leaves.items(), found, strict=True)
        }

    def leaves(self, of: Run, graph: TensorGraph) -> tuple[dict[Place, Tensor], tuple[Placed, ...]]:
        """What the readers of a graph made of a run, and the dictionaries among them."""
        leaves: dict[Place, Tensor] = {}
        saes: dict[str, Placed] = {}
        for block in graph.readers:
            if block.layer is None:
                leaves["final", 0] = of.reads.final
            elif block.site is None:
                place = block.port or "mlp"
                leaves[place, block.layer] = getattr(of.reads, place)[block.layer]
            else:
                placed = saes[f"{block.site}{block.layer}"] = self.placed[block.site, block.layer]
                leaves[f"{block.site}.out", block.layer] = of.reads.outputs[placed.name]
                if placed.is_transcoder and placed.is_linear:
                    leaves["mlp", block.layer] = of.reads.mlp[block.layer]
        return leaves, tuple(saes.values())

    @cached_property
    def placed(self) -> dict[tuple[str, int], Placed]:
        """The dictionaries by part and layer."""
        return {(placed.part, placed.layer): placed for placed in self.saes}

    def within(self, most: int) -> int:
        """Bytes of a work space of a method's own, no more than a batch may use."""
        return most if self.space is None else min(most, self.space)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scores at some tokens."""
        return self.graph.n_src, self.graph.n_dest

    def zeros(self) -> Float[Tensor, "*span src dest"]:
        """Where a method sums its scores."""
        spans = () if self.spans is None else (len(self.spans.names),)
        return torch.zeros(*spans, *self.shape, dtype=torch.float64, device=self.adapter.device)

    def tokens(self) -> list[Int64[Tensor, "token"]]:
        """The real tokens of the batch, all examples in a row; or those of each span."""
        batch, pos = self.batch.clean.shape
        real = torch.arange(pos) < self.batch.lengths.cpu()[:, None]
        found = [real]
        if self.spans is not None:
            labels = self.spans.labels[self.first : self.first + batch, :pos]
            found = [real & (labels == i) for i in range(len(self.spans.names))]
        return [some.flatten().nonzero()[:, 0].to(self.adapter.device) for some in found]

    def columns(self, part: TensorGraph) -> slice:
        """Where the scores of a part of the graph, whose readers are neighbours, belong."""
        start = self.graph.dest_starts[part.readers[0].key][0]
        return slice(start, start + part.n_dest)

    def score(
        self, gradients: Any, graph: TensorGraph | None = None
    ) -> Float[Tensor, "*span src dest"]:
        """`change . gradient` of every edge, summed over the batch; for each span, where asked."""
        return self.sum_spans(lambda tokens: self.score_at(tokens, gradients, graph or self.graph))

    def sum_spans(
        self, at: Callable[[Int64[Tensor, "token"]], Float[Tensor, "src dest"]]
    ) -> Float[Tensor, "*span src dest"]:
        """What a function gives for the batch's real tokens; for each span, where asked."""
        found = [at(tokens) for tokens in self.tokens()]
        return found[0] if self.spans is None else torch.stack(found)

    def score_at(
        self, tokens: Int64[Tensor, "token"], gradients: Any, graph: TensorGraph
    ) -> Float[Tensor, "src dest"]:
        """The same, summed over some tokens."""
        how = self.adapter, graph, self.saes, self.change, gradients, tokens
        return score_edges(*how, space=self.space)


AnyProblem = TypeVar("AnyProblem", bound=Problem)
