"""`plan`: operations, bytes, memory and time of a call, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from sae_circuits.attribution.method import Method
from sae_circuits.attribution.run import find_method
from sae_circuits.costs.memory import DEFAULT, Asked, Kind, Need, attribution_need, circuits_need
from sae_circuits.costs.operations import Work, attribution_work, circuits_work
from sae_circuits.costs.passes import Passes
from sae_circuits.costs.searches import masked_work, patched_work, search_work
from sae_circuits.costs.shape import Shape
from sae_circuits.errors import ContextError, OptionError, unknown
from sae_circuits.graph import TensorGraph
from sae_circuits.planning.rates import measured_rates
from sae_circuits.planning.shapes import shape_named
from sae_circuits.planning.sources import sized
from sae_circuits.planning.value import Plan, Stage
from sae_circuits.sizes import Memory, in_bytes

DTYPES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


def plan(
    model: Any,
    *,
    examples: int = 64,
    tokens: int = 64,
    method: str | Method | None = "eap-ig",
    of: Kind = "edges",
    features: Mapping[str, int] | None = None,
    sizes: int = 0,
    keep: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    memory: Memory | None = None,
    batch_size: int | None = None,
    flops_per_second: float | None = None,
    bytes_per_second: float | None = None,
    **options: Any,
) -> Plan:
    """Count what scores, and a curve after them, would compute, hold and take in time.

        seconds = operations / flops_per_second + bytes / bytes_per_second

    Only sizes are looked at: no weights are made, and nothing runs but products for less than a
    second, to see how fast this machine is.

    Args:
        model: a name such as "gpt2", "gpt2-xl" or "llama-3-8b"; an `Architecture`; or a model.
        examples: clean prompts, with as many corrupt ones.
        tokens: of each.
        method: of `methods()`; None for the circuits alone.
        of: scores of "edges" or of "nodes".
        features: how many dictionaries have, by place: {"mlp_out": 16384} in every layer,
            {"resid_post.3": 16384} in one, {"transcoder": 16384}.
        sizes: of circuits that are run for a curve, each beside a random one.
        keep: as in `attribute`.
        dtype: of the weights, where the model is not at hand.
        device: where it would run; its rates are measured if it is here.
        memory, batch_size: as in `attribute`.
        flops_per_second, bytes_per_second: instead of those that are measured; a byte takes as long
            as 100 operations, where only the first is given.
        options: of the method, such as `steps=5`.

    Raises:
        UnknownName: no such shape, method, option or dtype.
        OptionError: a count below 1; a method of one's own that does not say what it computes; a
            search or learned masks with features; a device that is not here, without rates.
        ContextError: more tokens than the model's context.

    Example:
        >>> import sae_circuits as sc
        >>> found = sc.plan("llama-3-8b", tokens=512, dtype="bfloat16", memory="40GiB",
        ...                 flops_per_second=4e14)
        >>> found.edges, found.stages[0].name, found.fits
        (805681, 'eap-ig', True)
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    for name, value in (("examples", examples), ("tokens", tokens)):
        if value < 1:
            raise OptionError(f"{name}={value}: give 1 or more")
    if method is None and sizes < 1:
        raise OptionError("nothing to plan: give a method, or sizes of a curve")
    shape = shape_named(model, DTYPES[dtype])
    arch = shape.architecture
    if tokens > arch.n_ctx:
        raise ContextError(f"{tokens:,} tokens: {arch.model!r} has a context of {arch.n_ctx:,}")
    graph = TensorGraph.from_model(arch, saes=sized(arch, features or {}))
    budget, rates = (
        None if memory is None else in_bytes(memory, device),
        _rates(device, dtype, flops_per_second, bytes_per_second),
    )
    place = _Place(shape, examples, budget, torch.device(device).type, batch_size, rates)
    stages = []
    if method is not None:
        stages.append(
            place.stage(*_scores(shape, graph, tokens, method, of, keep, examples, options))
        )
    if sizes:
        shares = tuple((i + 1) / sizes for i in range(sizes))
        need = circuits_need(shape, graph, tokens, n=examples * (2 * sizes + 1))
        stages.append(place.stage("curve", need, circuits_work(shape, graph, tokens, shares)))
    numbers = graph.n_src if of == "nodes" else graph.n_edges
    return Plan(
        model=arch.model,
        examples=examples,
        tokens=tokens,
        dtype=dtype,
        device=device,
        nodes=graph.n_src,
        edges=graph.n_edges,
        weights=shape.weights,
        budget=budget or DEFAULT.get(place.device, DEFAULT["other"]),
        result=shape.sum_size * numbers * (1 + examples * (keep == "example")),
        flops_per_second=rates[0],
        bytes_per_second=rates[1],
        stages=tuple(stages),
    )


def _scores(
    shape: Shape,
    graph: TensorGraph,
    tokens: int,
    method: str | Method,
    of: Kind,
    keep: str | None,
    examples: int,
    options: dict[str, Any],
) -> tuple[str, Need, Work, bool]:
    """The name of a method, what it takes, and whether that is the most that it can be."""
    chosen = find_method(method)
    if of not in ("edges", "nodes"):
        raise OptionError(f"of={of!r}: 'edges' or 'nodes'")
    chosen.require_level(of)
    chosen.require("corrupt", options)
    passes = chosen.costs(graph, {**chosen.options, **options})
    if not passes.planned:
        raise OptionError(
            f"method {chosen.name!r} cannot be planned: it does not say what it computes. Give it "
            "passes, or plan 'eap-ig' or 'exact' to compare with"
        )
    if (passes.masks or passes.visits) and any(block.is_narrow for block in graph.writers):
        raise OptionError(
            f"method {chosen.name!r} cannot be planned with features: what it runs hangs on which "
            "are active. Plan it without them, or 'eap-ig' with them"
        )
    need = attribution_need(shape, graph, tokens, passes, Asked(of, 1, keep, examples))
    return chosen.name, need, _work(shape, graph, tokens, passes, of), passes.visits


def _work(shape: Shape, graph: TensorGraph, tokens: int, passes: Passes, of: Kind) -> Work:
    """What a method computes."""
    if passes.masks:
        return masked_work(shape, graph, tokens, passes.masks)
    if passes.visits:
        return search_work(shape, graph, tokens)
    found = attribution_work(shape, graph, tokens, passes, kind=of)
    if passes.patched:
        found = found + patched_work(shape, graph, tokens, passes.patched)
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the work would be done."""

    shape: Shape
    examples: int
    budget: int | None
    device: str
    batch_size: int | None
    rates: tuple[float, float]

    def stage(self, name: str, need: Need, work: Work, at_most: bool = False) -> Stage:
        """A part of the work, with the batch size that the call would have."""
        try:
            how = need.within(self.budget, self.examples, device=self.device)
        except OptionError:
            how = replace(need.within(None, 1, device=self.device), size=1)
        if self.batch_size is not None:
            how = replace(how, size=self.batch_size)
        peak = need.at(how, self.device)
        batches = -(-self.examples // how.size)
        moved = self.examples * work.moved + batches * work.loads * self.shape.weights
        flops = self.examples * work.flops
        return Stage(
            name=name,
            flops=flops,
            moved=moved,
            batch_size=how.size,
            peak=peak,
            scores=need.scores,
            chunk=how.chunk,
            seconds=flops / self.rates[0] + moved / self.rates[1],
            fits=self.budget is None or peak <= self.budget,
            at_most=at_most,
        )


def _rates(
    device: str, dtype: str, flops: float | None, moved: float | None
) -> tuple[float, float]:
    """Operations and bytes in a second: those that are given, or that are measured."""
    for name, value in (("flops_per_second", flops), ("bytes_per_second", moved)):
        if value is not None and not value > 0:
            raise OptionError(f"{name}={value}: give a number above 0")
    if flops is not None:
        return flops, moved or flops / 100
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"{device!r} is not here to be measured: give flops_per_second")
    found = measured_rates(device, getattr(torch, dtype))
    return found[0], moved or found[1]
