"""`ablate` and `run_circuits`: real interventions on the running model, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sae_circuits.ablation.batches import batching, default_batch_size, shape_of
from sae_circuits.ablation.interventions import RUNS, Intervention
from sae_circuits.ablation.located import Located, locate
from sae_circuits.ablation.sweep import Sweep
from sae_circuits.ablation.values import Intervening, intervention_name
from sae_circuits.cache import check_model, require_finite, run
from sae_circuits.costs.memory import Batching, circuits_need
from sae_circuits.errors import GraphError, NumericalError, OptionError
from sae_circuits.graph import Circuit, SpanCircuit
from sae_circuits.graph.given import require_circuit
from sae_circuits.metrics import Targets
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.shards import (
    Job,
    Means,
    Partial,
    Shard,
    Workers,
    fingerprint,
    run_shards,
    shards_of,
)
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task
from sae_circuits.tasks.given import require_task

Direction = Literal["noising", "denoising"]
_START = {"noising": "clean", "denoising": "corrupt"}  # the run in which edges are replaced
Read = Callable[[Float[Tensor, "batch vocab"], Targets], Shaped[Tensor, "batch *rest"]]


def ablate(
    model: Any,
    circuit: Circuit | SpanCircuit,
    task: Task,
    *,
    intervention: Intervening = "corrupt",
    direction: Direction = "noising",
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> Float[Tensor, "n vocab"]:
    """The logits at the answer positions with every edge outside a circuit intervened on.

    Changes propagate: what a reader computes from the altered stream is what later readers see.
    The full circuit gives the clean logits; the empty one, under `corrupt`, the corrupt logits.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        circuit: of `TensorGraph.from_model(model)`; or one by span, whose absent edges carry the
            intervention's values at the tokens of those spans only.
        task: the prompts.
        intervention: what absent edges carry: "corrupt", "zero", "mean", "mean-positional" or
            "resample"; or a value for each writer, such as `learn_constants` gives.
        direction: "noising" runs the clean prompt and replaces what is outside the circuit;
            "denoising" runs the corrupt one and restores what is inside to its clean value.
        batch_size: examples at a time; by default as many as `memory` allows.
        memory: to stay under beside the model's weights, as in `attribute`.
        seed: of `resample`.
        workers, folder: as in `attribute`.

    Raises:
        GraphError: a circuit of another model's graph, or of a part of it.
        OptionError: denoising with an intervention that is no run of the model.
        TaskError: a circuit by span whose spans the prompts do not have.
        NumericalError: NaN or infinity, with the node and the example.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=4, seed=0)
        >>> circuit = sc.Circuit.full(sc.TensorGraph.from_model(model))
        >>> sc.ablate(model, circuit, task).shape[0]
        4
    """
    return run_circuits(
        model,
        [circuit],
        task,
        _logits,
        intervention=intervention,
        direction=direction,
        batch_size=batch_size,
        memory=memory,
        seed=seed,
        workers=workers,
        folder=folder,
    )[0]


def run_circuits(
    model: Any,
    circuits: Sequence[Circuit | SpanCircuit],
    task: Task,
    read: Read,
    *,
    intervention: Intervening = "corrupt",
    direction: Direction = "noising",
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> Shaped[Tensor, "circuit n *rest"]:
    """What `read` makes of the logits of every circuit on every example.

    The clean and the replacement run of a batch are made once for all circuits. See `ablate` for
    the other arguments and for what is raised.

    Args:
        read: from the logits at the answer positions and the targets to one row per example.
    """
    require_task(task)
    adapter = Adapter.of(model)
    require_whole(circuits, adapter)
    task.check_fits(context=adapter.architecture.n_ctx, vocabulary=adapter.architecture.d_vocab)
    graph, pos = circuits[0].graph, task.clean.shape[1]
    need = circuits_need(
        shape_of(adapter),
        graph,
        pos,
        n=len(task) * len(circuits),
        mean=intervention_name(intervention).startswith("mean"),
    )
    what = f"a circuit's run on one prompt of {pos:,} tokens"
    cut = batching(adapter, need, len(task), memory=memory, batch_size=batch_size, what=what)
    check_model(adapter, task.clean)
    with torch.no_grad():
        prepared = Intervention.prepare(
            adapter, task, intervention, batch_size=cut.size, seed=seed,
            saes=Placed.all_of(adapter, graph),
        )  # fmt: skip
    if direction == "denoising":
        prepared, circuits = _denoising(prepared), [~circuit for circuit in circuits]
    elif direction != "noising":
        raise OptionError(f"unknown direction {direction!r}: 'noising' or 'denoising'")
    locate(circuits, task)  # what spans do not fit is refused before anything runs
    job = CircuitsJob(
        model, tuple(circuits), task, read, prepared, direction, cut, adapter.fingerprint
    )
    found = run_shards(job, shards_of(len(task), cut.size), Means(workers, folder))
    return torch.cat([one["rows"] for one in found], 1).cpu()


def _logits(logits: Float[Tensor, "batch vocab"], _: Targets) -> Float[Tensor, "batch vocab"]:
    return logits


@dataclass(frozen=True, eq=False)
class CircuitsJob(Job):
    """Circuits on the examples of a task, a row of what is read for each of both.

    Args:
        intervention: prepared on the whole task, and swapped for denoising.
        task: as it was given.
        cut: examples that go through the model at a time, and bytes of a work space.
    """

    model: Any
    circuits: tuple[Circuit | SpanCircuit, ...]
    task: Task
    read: Read
    intervention: Intervention
    direction: str
    cut: Batching
    model_id: str

    name = "circuits"
    unit = "example"

    @property
    def said(self) -> dict[str, Any]:
        """All that decides the rows."""
        graph = self.circuits[0].graph
        constant = self.intervention.constant
        return {
            "model": self.model_id,
            "task": self.task.fingerprint,
            "read": fingerprint(self.read),
            "intervention": self.intervention.name,
            "replacement": self.intervention.task.fingerprint,
            "values": fingerprint(None if constant is None else dict(constant.values)),
            "direction": self.direction,
            "batch_size": self.cut.size,
            "space": self.cut.chunk,
            "graph": fingerprint([repr(graph.writers), repr(graph.readers)]),
            "saes": [record.fingerprint for record in graph.records],
            "circuits": fingerprint([circuit.mask for circuit in self.circuits]),
        }

    def check(self) -> None:
        """See that a worker's copy of the model is the one that is meant."""
        Adapter.of(self.model).require_same(self.model_id)

    def describe(self, shard: Shard) -> str:
        """The examples, and the first of their prompts."""
        return self.task.describe(shard.start, shard.stop)

    def open(self) -> Callable[[Shard], Partial]:
        """What is read of every circuit on a shard's examples."""
        adapter = Adapter.of(self.model)
        saes = Placed.all_of(adapter, self.circuits[0].graph)
        located = locate(self.circuits, self.task)

        @torch.no_grad()
        def work(shard: Shard) -> Partial:
            found = [
                torch.stack([self.read(logits, targets) for logits in every])
                for targets, every in _batches(self, adapter, located, saes, shard)
            ]
            return {"rows": torch.cat(found, 1)}

        return work


def clean_logits(
    model: Any, task: Task, *, batch_size: int | None = None, memory: Memory | None = None
) -> Float[Tensor, "n vocab"]:
    """The model's own logits at the answer positions of the clean prompts."""
    adapter = Adapter.of(model)
    size = batch_size or default_batch_size(adapter, task, memory=memory)
    runs = (run(adapter, batch.clean, batch.position).logits for batch in task.batches(size))
    return torch.cat([logits.detach() for logits in runs]).cpu()


def require_whole(circuits: Sequence[Circuit | SpanCircuit], adapter: Adapter) -> None:
    """Refuse circuits that are not of the graph of all heads and MLPs of this model."""
    for circuit in circuits:
        require_circuit(circuit)
        graph = circuit.graph
        if not graph.architecture.same_shape(adapter.architecture):
            raise GraphError(
                f"{circuit!r} is not of this model ({adapter.architecture.model!r}): make one of "
                "scores of this model, on TensorGraph.from_model(model)"
            )
        if graph.is_part:
            whole = f"TensorGraph.from_model(model{', saes=...' if graph.saes else ''})"
            raise GraphError(
                f"{circuit!r} is of a part of the model's graph; the rest has to be in or out as "
                f"well: take circuit.on({whole}); where there are too many features, "
                "graph.restrict(...) merges some into their error nodes"
            )


def _denoising(prepared: Intervention) -> Intervention:
    if not prepared.is_run:
        raise OptionError(
            f"denoising starts from a run of the model, and {prepared.name!r} is none: use "
            f"{' or '.join(map(repr, RUNS))}"
        )
    return replace(prepared, task=prepared.task.swapped())


def _batches(
    job: CircuitsJob,
    adapter: Adapter,
    circuits: Sequence[Located],
    saes: tuple[Placed, ...],
    shard: Shard,
) -> Iterator[tuple[Targets, Iterator[Tensor]]]:
    """For each batch, the targets and the logits of every circuit, one after the other."""
    prepared, denoising = job.intervention, job.direction == "denoising"
    for first in range(shard.start, shard.stop, job.cut.size):
        examples = slice(first, min(first + job.cut.size, shard.stop))
        batch, original = prepared.task[examples], job.task[examples]
        now = run(adapter, batch.clean, batch.position, saes=saes)
        require_finite(now.writes, first, f"the {_START[job.direction]} run")
        clean = now.logits
        if denoising:
            clean = run(adapter, original.clean, original.position).logits
        replacement = prepared.writes(adapter, batch, saes)
        require_finite(replacement, first, f"the {prepared.name} values")
        sweep = Sweep(
            adapter=adapter,
            graph=circuits[0].graph,
            start=now.writes["input"],
            replacement=replacement,
            is_run=prepared.is_run,
            calls=now.calls,
            position=batch.position.to(clean.device),
            saes=saes,
            space=job.cut.chunk,
        )
        here = [circuit.of(examples, batch.clean.shape[1]) for circuit in circuits]
        logits = (_finite(each, first) for each in sweep.logits(here))
        yield Targets.of(original, clean), logits
        del now, clean, replacement, sweep, logits  # before the next batch takes as much


def _finite(logits: Float[Tensor, "batch vocab"], first: int) -> Float[Tensor, "batch vocab"]:
    good = logits.isfinite().all(1)
    if not bool(good.all()):
        example = first + int((~good).nonzero()[0])
        raise NumericalError(f"the logits of example {example} are not finite under the circuit")
    return logits
