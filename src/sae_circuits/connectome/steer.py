"""`steer`: what a model writes, and how well it does, under a change of growing strength."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.ablation.batches import default_batch_size
from sae_circuits.cache import check_model
from sae_circuits.connectome.changes import Changes, require_strength
from sae_circuits.connectome.steer_job import (
    MeasuringJob,
    Strengths,
    WritingJob,
    measured,
    written,
)
from sae_circuits.connectome.steering import Plan
from sae_circuits.errors import OptionError
from sae_circuits.evaluation.steered import Steered
from sae_circuits.metrics import Metric, get, logit_diff, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.provenance import provenance_of
from sae_circuits.shards import Means, Workers
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task
from sae_circuits.tasks.prompts import Prompts, as_task

STRENGTHS = (0.0, 0.5, 1.0, 2.0)


def steer(
    model: Any,
    dictionary: Any,
    changes: Changes,
    prompts: Prompts | None = None,
    *,
    strengths: Sequence[float] = STRENGTHS,
    positions: int | Sequence[int] | None = None,
    n_tokens: int = 20,
    temperature: float = 0.0,
    task: Task | None = None,
    metric: str | Metric = logit_diff,
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> Steered:
    """Let a model write, and measure it on a task, under a change of growing strength.

    Args:
        model, dictionary, changes, positions: as in `steering`.
        prompts: what it goes on from: one text or several, or token ids.
        strengths: how far to go from what stands there to what the changes make of it.
        n_tokens: to write after each prompt, or fewer, up to the end of the text or the context.
        temperature: 0 for the likeliest token each time; above it, tokens are drawn, with the same
            random numbers at every strength.
        task: whose clean prompts are run for the metric.
        metric: its name, or a function.
        batch_size: of the task's examples at a time.
        memory: to stay under beside the model's weights, as in `attribute`.
        seed: of the tokens that are drawn, and of the bootstrap.
        workers, folder: as in `attribute`; shards are of the task's examples, and of the prompts by
            strength.

    Raises:
        OptionError: neither prompts nor a task, no strengths or one that is not finite, no token
            to write, a temperature below 0, or a position outside a prompt; else as `steering`.
        TaskError, ContextError: prompts that the model cannot read.
        NumericalError: logits that are not finite after the change.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> (sae,) = sc.load_saes("demo", ["z.1"])
        >>> done = sc.steer(
        ...     model, sae, {228: ("add", 4.0)},
        ...     "Afterwards, Michael and Rebecca went to the beach, and Michael gave a map to",
        ...     strengths=[0, 1], n_tokens=1,
        ... )
        >>> done.before, done.texts
        (('Rebecca',), (('Rebecca',), ('Michael',)))
    """
    metric, adapter = get(metric), Adapter.of(model)
    plan = Plan.of(model, dictionary, changes, positions=positions)
    every = Strengths(
        plan, _checked(strengths, n_tokens, temperature, prompts, task), adapter.fingerprint
    )
    asked = None if prompts is None else as_task(model, prompts)
    for given in (asked, task):
        if given is not None:
            _require_fits(adapter, given, plan)
            check_model(adapter, given.clean)
    table, means = torch.zeros(len(every), 0), Means(workers, folder)
    if task is not None:
        size = batch_size or default_batch_size(adapter, task, memory=memory)
        table = measured(
            MeasuringJob(adapter.model, every, task, metric, size), means.within("metric")
        )
    texts: list[tuple[str, ...]] = [()] * len(every)
    if asked is not None:
        writing = WritingJob(adapter.model, every, asked, n_tokens, temperature, seed)
        found = written(writing, means.within("texts"))
        texts = [tuple(_text(adapter, tokens) for tokens in some) for some in found]
    return Steered(
        changes=plan.said,
        strengths=every.strengths,
        prompts=() if asked is None else tuple(_texts(adapter, asked)),
        before=texts[0],
        texts=tuple(texts[1:]),
        values=table[1:],
        clean=table[0],
        provenance=provenance_of(
            adapter, task, method="steering", metric=metric_name(metric) if task else "",
            intervention=plan.said, seed=seed,
            options={"n_tokens": n_tokens, "temperature": temperature,
                     "positions": plan.positions},
        ),
    )  # fmt: skip


# -- checks ----------------------------------------------------------------------------------------


def _checked(
    strengths: Sequence[float],
    n_tokens: int,
    temperature: float,
    prompts: Prompts | None,
    task: Task | None,
) -> tuple[float, ...]:
    """The strengths, once all numbers are found to be good."""
    if prompts is None and task is None:
        raise OptionError("there is nothing to run: give prompts, a task, or both")
    found = tuple(strengths)
    if not found:
        raise OptionError("there are no strengths: give one or several, such as [0, 1, 2]")
    for strength in found:
        require_strength(strength)
    if n_tokens < 1:
        raise OptionError(f"{n_tokens} tokens to write: take 1 or more")
    if not 0 <= temperature < float("inf"):
        raise OptionError(f"the temperature is {temperature}: take 0 or a number above it")
    return tuple(map(float, found))


def _require_fits(adapter: Adapter, task: Task, plan: Plan) -> None:
    """Refuse prompts that the model cannot read, or that lack a position."""
    arch = adapter.architecture
    task.check_fits(context=arch.n_ctx, vocabulary=arch.d_vocab)
    shortest, last = int(task.lengths.min()), max(plan.positions or (0,))
    if last >= shortest:
        raise OptionError(
            f"position {last} lies outside the shortest prompt, of {shortest} tokens: take 0 to "
            f"{shortest - 1}, counted from the first real token"
        )


# -- texts -----------------------------------------------------------------------------------------


def _texts(adapter: Adapter, prompts: Task) -> Iterator[str]:
    """The prompts, as they were given or as the tokenizer reads them."""
    if prompts.clean_text:
        yield from prompts.clean_text
        return
    for prompt, length in zip(prompts.clean, prompts.lengths.tolist(), strict=True):
        yield _text(adapter, prompt[:length])


def _text(adapter: Adapter, tokens: Int64[Tensor, "pos"]) -> str:
    """What some tokens read; ids where there is no tokenizer."""
    tokenizer = getattr(adapter.model, "tokenizer", None)
    ids = tokens.tolist()
    return " ".join(map(str, ids)) if tokenizer is None else tokenizer.decode(ids)
