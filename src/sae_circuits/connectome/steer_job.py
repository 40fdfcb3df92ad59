"""Steering as jobs: a metric over examples of a task, and texts over prompts by strength."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.ablation.changed_run import changed_run
from sae_circuits.connectome.steering import Plan
from sae_circuits.errors import NumericalError
from sae_circuits.metrics import Metric, Targets, metric_name
from sae_circuits.models.adapter import Adapter
from sae_circuits.shards import Job, Means, Partial, Shard, fingerprint, run_shards, shards_of
from sae_circuits.tasks import Task


@dataclass(frozen=True, eq=False)
class Strengths:
    """A model by itself, and under a change of each of some strengths.

    Args:
        model_id: of the model.
    """

    plan: Plan
    strengths: tuple[float, ...]
    model_id: str

    def __len__(self) -> int:
        return 1 + len(self.strengths)

    def applied(self, i: int) -> AbstractContextManager[None]:
        """Inside, the model runs by itself for 0, and else with the i-th strength."""
        if i == 0:
            return nullcontext()
        return replace(self.plan, strength=self.strengths[i - 1]).applied()

    def named(self, i: int) -> str:
        """Nothing for the model by itself, or the strength."""
        return "" if i == 0 else f" at strength {self.strengths[i - 1]:g}"

    @property
    def said(self) -> dict[str, Any]:
        """All that decides what the model does."""
        plan, placed = self.plan, self.plan.place.placed
        steps = [[step.node.name, step.kind, step.amount] for step in plan.place.steps]
        return {
            "model": self.model_id,
            "dictionary": None if placed is None else placed.dictionary.fingerprint,
            "changes": plan.said,
            "steps": fingerprint(steps),
            "basis": fingerprint(plan.basis),
            "positions": None if plan.positions is None else list(plan.positions),
            "strengths": list(self.strengths),
        }

    def check(self, model: Any) -> None:
        """See that a worker's copy of the model is the one that is meant."""
        Adapter.of(model).require_same(self.model_id)


@dataclass(frozen=True, eq=False)
class MeasuringJob(Job):
    """A metric on each example of a task, of the model by itself and at each strength.

    Args:
        size: examples that go through the model at a time.
    """

    model: Any
    every: Strengths
    task: Task
    metric: Metric
    size: int

    name = "steering"
    unit = "example"

    @property
    def said(self) -> dict[str, Any]:
        """All that decides the values."""
        return {
            **self.every.said,
            "task": self.task.fingerprint,
            "metric": metric_name(self.metric),
            "metric code": fingerprint(self.metric),
            "batch_size": self.size,
        }

    def check(self) -> None:
        """See that a worker's copy of the model is the one that is meant."""
        self.every.check(self.model)

    def describe(self, shard: Shard) -> str:
        """The examples, and the first of their prompts."""
        return self.task.describe(shard.start, shard.stop)

    def open(self) -> Callable[[Shard], Partial]:
        """The values on a shard's examples."""
        adapter = Adapter.of(self.model)

        @torch.no_grad()
        def work(shard: Shard) -> Partial:
            firsts = range(shard.start, shard.stop, self.size)
            return {"values": torch.cat([self._values(adapter, i, shard.stop) for i in firsts], 1)}

        return work

    def _values(self, adapter: Adapter, first: int, stop: int) -> Float[Tensor, "strength batch"]:
        batch = self.task[first : min(first + self.size, stop)]
        values: list[Tensor] = []
        clean: Tensor | None = None  # what the model says by itself
        for i in range(len(self.every)):
            with self.every.applied(i):
                logits = changed_run(adapter, batch, ()).logits
            _require_finite(logits, first, self.every.named(i))
            clean = logits if clean is None else clean
            values.append(self.metric(logits, Targets.of(batch, clean)).detach().cpu())
        return torch.stack(values)


@dataclass(frozen=True, eq=False)
class WritingJob(Job):
    """What a model writes after each prompt: all of them by itself, and then at each strength.

    Args:
        n_tokens: to write, at most.
        temperature: 0 for the likeliest token each time.
        seed: of each text's random numbers.
    """

    model: Any
    every: Strengths
    prompts: Task
    n_tokens: int
    temperature: float
    seed: int

    name = "writing"
    unit = "text"

    @property
    def said(self) -> dict[str, Any]:
        """All that decides the texts."""
        return {
            **self.every.said,
            "prompts": self.prompts.fingerprint,
            "n_tokens": self.n_tokens,
            "temperature": self.temperature,
            "seed": self.seed if self.temperature else None,
        }

    def check(self) -> None:
        """See that a worker's copy of the model is the one that is meant."""
        self.every.check(self.model)

    def describe(self, shard: Shard) -> str:
        """The texts, with the prompt and the strength of the first."""
        strength, prompt = divmod(shard.start, len(self.prompts))
        return (
            f"texts {shard.start} to {shard.stop - 1} (prompt {prompt}"
            f"{self.every.named(strength)}, ...)"
        )

    def open(self) -> Callable[[Shard], Partial]:
        """The tokens of a shard's texts, filled up with -1."""
        adapter = Adapter.of(self.model)

        @torch.no_grad()
        def work(shard: Shard) -> Partial:
            found = torch.full((shard.stop - shard.start, self.n_tokens), -1)
            for row, item in zip(found, range(shard.start, shard.stop), strict=True):
                written = self._written(adapter, *divmod(item, len(self.prompts)))
                row[: len(written)] = written
            return {"tokens": found}

        return work

    def _written(self, adapter: Adapter, strength: int, prompt: int) -> Int64[Tensor, "pos"]:
        """What the model writes after a prompt."""
        end = getattr(getattr(adapter.model, "tokenizer", None), "eos_token_id", None)
        most = adapter.architecture.n_ctx
        length = int(self.prompts.lengths[prompt])
        generator = torch.Generator().manual_seed(self.seed)
        tokens = self.prompts.clean[prompt, :length]
        with self.every.applied(strength):
            for _ in range(self.n_tokens):
                if most and len(tokens) >= most:
                    break
                logits = adapter.forward(tokens[None])[0, -1].cpu()
                _require_finite(logits[None], prompt, self.every.named(strength))
                token = _next(logits, self.temperature, generator)
                tokens = torch.cat([tokens, token.to(tokens)])
                if int(token) == end:
                    break
        return tokens[length:].cpu()


def measured(job: MeasuringJob, means: Means) -> Float[Tensor, "strength n"]:
    """The values on all examples: of the model by itself, and at each strength."""
    shards = shards_of(len(job.task), job.size)
    return torch.cat([one["values"].cpu() for one in run_shards(job, shards, means)], 1)


def written(job: WritingJob, means: Means) -> Iterator[Sequence[Int64[Tensor, "pos"]]]:
    """What is written after each prompt: by the model by itself, and at each strength."""
    n = len(job.prompts)
    found = run_shards(job, shards_of(n * len(job.every), 1), means)
    tokens = torch.cat([one["tokens"].cpu() for one in found])
    for rows in tokens.split(n):
        yield [row[row >= 0] for row in rows]


def _next(
    logits: Float[Tensor, "vocab"], temperature: float, generator: torch.Generator
) -> Int64[Tensor, "1"]:
    """The likeliest token, or one that is drawn."""
    if not temperature:
        return logits.argmax()[None]
    return torch.multinomial((logits.double() / temperature).softmax(0), 1, generator=generator)


def _require_finite(logits: Float[Tensor, "n vocab"], first: int, at: str) -> None:
    good = logits.isfinite().all(1)
    if not bool(good.all()):
        raise NumericalError(
            f"the logits of prompt {first + int((~good).nonzero()[0])} are not finite{at}: take "
            "smaller strengths, or check the model's weights"
        )
