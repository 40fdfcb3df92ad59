"""`learn_constants`: what each writer had best write instead, where a circuit leaves it out.

Optimal ablation (Li and Janson 2024, arXiv 2409.09951): the constants that make the expected loss
of the circuit smallest,

    values = argmin over constants c of  E over examples of loss(circuit, absent edges carrying c)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.ablation.batches import default_batch_size
from sae_circuits.ablation.interventions import mean_writes
from sae_circuits.ablation.run import require_whole
from sae_circuits.ablation.soft import Bus, Soft
from sae_circuits.ablation.sweep import Sweep
from sae_circuits.ablation.values import NodeValues
from sae_circuits.cache import Run, Writes, check_model, require_finite, run
from sae_circuits.errors import GraphError, MetricError, NumericalError, OptionError
from sae_circuits.graph import Circuit
from sae_circuits.metrics import Metric, Targets, get, kl, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.precision import wide
from sae_circuits.progress import track
from sae_circuits.provenance import provenance_of
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task


def learn_constants(
    model: Any,
    circuit: Circuit,
    task: Task,
    *,
    loss: str | Metric = kl,
    steps: int = 100,
    lr: float = 0.05,
    batch_size: int | None = None,
    memory: Memory | None = None,
) -> NodeValues:
    """The constants with which a circuit's loss is smallest when absent edges carry them.

    They begin at the means over the clean prompts, or at zeros where those lose less, and move by
    Adam, all examples at each step; what comes back is the best that was seen. Nothing is drawn at
    random. They are learned on this task: evaluate them on prompts that they were not learned on.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        circuit: of `TensorGraph.from_model(model)`.
        task: the prompts; only the clean ones are used.
        loss: one number per example that is to be small, or a name: "kl" to the whole model,
            "cross_entropy", or a function of yours.
        steps: updates.
        lr: of Adam, in units of the root mean square of what stands at a place.
        batch_size: examples at a time.
        memory: to stay under beside the model's weights, as in `attribute`.

    Returns:
        What takes the place of an intervention's name: `evaluate(..., intervention=values)`.

    Raises:
        OptionError: steps or lr not above 0.
        GraphError: a circuit of another model's graph, of a part of it, or with features.
        MetricError: a loss that is not differentiable.
        NumericalError: the loss diverges.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> scores = sc.attribute(model, sc.TensorGraph.from_model(model), task)
        >>> circuit = sc.prune.top_n(scores, 100)
        >>> values = sc.learn_constants(model, circuit, task, steps=5)
        >>> sc.ablate(model, circuit, task, intervention=values).shape[0], values["a0.h1"].shape
        (8, torch.Size([16]))
    """
    if steps < 1 or not lr > 0:
        raise OptionError(f"steps={steps!r}, lr={lr!r}: give numbers above 0")
    adapter, loss = Adapter.of(model), get(loss)
    require_whole([circuit], adapter)
    if any(block.is_split for block in circuit.graph.writers):
        raise GraphError(f"{circuit!r} has features: constants are learned for heads and MLPs only")
    task.check_fits(context=adapter.architecture.n_ctx, vocabulary=adapter.architecture.d_vocab)
    check_model(adapter, task.clean)
    size = batch_size or default_batch_size(adapter, task, memory=memory, gradient=True)
    means = mean_writes(adapter, task, size, positional=False)
    start = NodeValues.of({name: wide(x[0, 0]) for name, x in means.values.items()}, "optimal")
    batches = _Batch.all_of(adapter, circuit, task, size)
    best = _descend(_Loss(adapter, start, batches, loss), steps, lr)
    options = {"steps": steps, "lr": lr, "edges": len(circuit)}
    made = provenance_of(
        adapter,
        task,
        method="learn_constants",
        metric=metric_name(loss),
        intervention="optimal",
        options=options,
    )
    return replace(start, vector=best.to(start.vector).cpu(), provenance=made)


@dataclass(frozen=True, eq=False)
class _Batch:
    circuit: Circuit
    task: Task
    clean: Run
    room: Bus

    @classmethod
    def all_of(cls, adapter: Adapter, circuit: Circuit, task: Task, size: int) -> list[_Batch]:
        """The clean runs of a task."""
        made, rooms = list[_Batch](), dict[torch.Size, Bus]()
        for i, batch in enumerate(task.batches(size)):
            clean = run(adapter, batch.clean, batch.position)
            require_finite(clean.writes, i * size, "the clean run")
            start = clean.writes["input"]
            room = rooms.setdefault(start.shape, Bus.of(circuit.graph.n_src, start))
            made.append(cls(circuit, batch, clean, room))
        return made

    def losses(self, adapter: Adapter, values: Writes, loss: Metric) -> Float[Tensor, "batch"]:
        """The loss of each example when absent edges carry these values."""
        start = self.clean.writes["input"]
        shape = start.shape[:2]
        sweep = Sweep(
            adapter=adapter,
            graph=self.circuit.graph,
            start=start,
            replacement=values.map(by=lambda x: x.expand(*shape, *x.shape[2:])),
            is_run=False,
            calls=self.clean.calls,
            position=self.task.position.to(start.device),
        )
        mask = self.circuit.mask.to(start)
        return loss(Soft(sweep, self.room).logits(mask), Targets.of(self.task, self.clean.logits))


@dataclass(frozen=True, eq=False)
class _Loss:
    """The mean loss over a task as a function of the constants."""

    adapter: Adapter
    means: NodeValues
    batches: Sequence[_Batch]
    loss: Metric

    def slope(self, vector: Float[Tensor, "number"]) -> tuple[float, Float[Tensor, "number"]]:
        """The loss and its gradient."""
        n, total, slopes = sum(len(b.task) for b in self.batches), 0.0, torch.zeros_like(vector)
        for batch in self.batches:
            leaf = vector.detach().to(self.means.vector, copy=True).requires_grad_()
            with self.adapter.frozen(), torch.enable_grad():
                values = replace(self.means, vector=leaf).writes(batch.clean.writes)
                value = batch.losses(self.adapter, values, self.loss).double().sum() / n
            if not value.requires_grad:
                name = metric_name(self.loss)
                raise MetricError(f"loss {name!r} is not differentiable: take another, such as kl")
            (slope,) = torch.autograd.grad(value, leaf)
            total, slopes = total + float(value.detach()), slopes + slope
        return total, slopes


def _descend(of: _Loss, steps: int, lr: float) -> Float[Tensor, "number"]:
    """The constants of the smallest loss on the way from the means, or from zeros."""
    means = of.means.vector.double()
    squares = [x.double().square().mean().expand(x.numel()) for _, x in of.means.items()]
    units = torch.cat(squares).sqrt().clamp(min=1e-6)
    starts = means, torch.zeros_like(means)
    least, best = min(((of.slope(x)[0], x) for x in starts), key=lambda pair: pair[0])
    at = (best / units).requires_grad_()
    optimizer = torch.optim.Adam([at], lr=lr)
    for step in track(range(steps), total=steps, description="constants"):
        vector = units * at.detach()
        if bool(vector.to(of.means.vector).isfinite().all()):
            total, slope = of.slope(vector)
        else:
            total, slope = float("nan"), vector
        if not isfinite(total):
            raise NumericalError(
                f"the loss is {total} at step {step} of {steps}: the constants diverge; take an lr "
                f"smaller than {lr:g}, or a model in float32"
            )
        if total < least:
            least, best = total, vector
        at.grad = slope * units
        optimizer.step()
    return best
