"""A circuit by span on the prompts of a task: which of its parts each token belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae_circuits.errors import TaskError
from sae_circuits.graph import Circuit, SpanCircuit, TensorGraph
from sae_circuits.tasks import Task
from sae_circuits.tasks.spans import Spans


@dataclass(frozen=True, eq=False)
class Located:
    """A circuit with the part that holds at each token.

    Args:
        masks: which edges are in, for each part.
        labels: the index of each token's part; None where there is one part for all. Padding has
            any.
    """

    graph: TensorGraph
    masks: tuple[Bool[Tensor, "edge"], ...]
    labels: Int64[Tensor, "n pos"] | None = None

    def of(self, examples: slice, width: int) -> Located:
        """The same on some examples, cut to the longest of them."""
        if self.labels is None:
            return self
        return replace(self, labels=self.labels[examples, :width])


def locate(circuits: Sequence[Circuit | SpanCircuit], task: Task) -> list[Located]:
    """Find the spans of circuits in a task's prompts.

    Raises:
        TaskError: spans that the prompts do not have, or a token in no span of a circuit that has
            no part for such.
    """
    found: list[Located] = []
    for circuit in circuits:
        if isinstance(circuit, Circuit):
            found.append(Located(circuit.graph, (circuit.mask.cpu(),)))
        else:
            labels = _labels(circuit, task)
            found.append(Located(circuit.graph, tuple(circuit.mask), labels))
    return found


def _labels(circuit: SpanCircuit, task: Task) -> Int64[Tensor, "n pos"]:
    spans, parts = Spans.of(task, circuit.spans), list(circuit.parts)
    if missing := [name for name in spans.names if name not in parts]:
        label = spans.names.index(missing[0])
        real = torch.arange(task.clean.shape[1]) < task.lengths.cpu()[:, None]
        example, at = (real & (spans.labels == label)).nonzero()[0].tolist()
        raise TaskError(
            f"position {at} of prompt {example} is in span {missing[0]!r}, for which {circuit!r} "
            "has no circuit: give one, or other spans"
        )
    order = torch.tensor([parts.index(name) for name in spans.names])
    return order[spans.labels.clamp(max=len(order) - 1)]
