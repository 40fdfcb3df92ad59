"""`ablate` and `run_circuits`: real interventions on the running model, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
from sae_circuits.metrics import Targets
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.progress import track
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task

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
        lambda logits, _: logits,
        intervention=intervention,
        direction=direction,
        batch_size=batch_size,
        memory=memory,
        seed=seed,
    )[0]


@torch.no_grad()
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
) -> Shaped[Tensor, "circuit n *rest"]:
    """What `read` makes of the logits of every circuit on every example.

    The clean and the replacement run of a batch are made once for all circuits. See `ablate` for
    the other arguments and for what is raised.

    Args:
        read: from the logits at the answer positions and the targets to one row per example.
    """
    adapter = Adapter.of(model)
    require_whole(circuits, adapter)
    task.check_fits(context=adapter.architecture.n_ctx, vocabulary=adapter.architecture.d_vocab)
    check_model(adapter, task.clean)
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
    size, saes = cut.size, Placed.all_of(adapter, graph)
    prepared = Intervention.prepare(
        adapter, task, intervention, batch_size=size, seed=seed, saes=saes
    )
    if direction == "denoising":
        prepared, circuits = _denoising(prepared), [~circuit for circuit in circuits]
    elif direction != "noising":
        raise OptionError(f"unknown direction {direction!r}: 'noising' or 'denoising'")
    located = locate(circuits, task)
    found = [
        torch.stack([read(logits, targets) for logits in every])
        for targets, every in _batches(adapter, located, prepared, task, cut, direction, saes)
    ]
    return torch.cat(found, 1).cpu()


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
    adapter: Adapter,
    circuits: Sequence[Located],
    prepared: Intervention,
    task: Task,
    cut: Batching,
    direction: str,
    saes: tuple[Placed, ...],
) -> Iterator[tuple[Targets, Iterator[Tensor]]]:
    """For each batch, the targets and the logits of every circuit, one after the other."""
    first, size, total = 0, cut.size, -(-len(task) // cut.size)
    pairs = zip(prepared.task.batches(size), task.batches(size), strict=True)
    for batch, original in track(pairs, total=total, description=f"batches, {prepared.name}"):
        now = run(adapter, batch.clean, batch.position, saes=saes)
        require_finite(now.writes, first, f"the {_START[direction]} run")
        clean = now.logits
        if direction == "denoising":
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
            space=cut.chunk,
        )
        examples, width = slice(first, first + len(batch)), batch.clean.shape[1]
        here = [circuit.of(examples, width) for circuit in circuits]
        logits = (_finite(each, first) for each in sweep.logits(here))
        yield Targets.of(original, clean), logits
        del now, clean, replacement, sweep, logits  # before the next batch takes as much
        first += len(batch)


def _finite(logits: Float[Tensor, "batch vocab"], first: int) -> Float[Tensor, "batch vocab"]:
    good = logits.isfinite().all(1)
    if not bool(good.all()):
        example = first + int((~good).nonzero()[0])
        raise NumericalError(f"the logits of example {example} are not finite under the circuit")
    return logits
