"""How many examples go through the model at a time."""

from __future__ import annotations

from sae_circuits.graph import Architecture
from sae_circuits.tasks import Task

RUN_BYTES = 1 << 30  # what the activations of one run with gradients may take
_COPIES = 4  # of features' activations that are held at once
_WIDTHS_PER_LAYER = 40  # numbers that autograd keeps a token and layer, in units of d_model


def default_batch_size(
    architecture: Architecture, task: Task, n_features: int = 0, *, copies: bool = False
) -> int:
    """As many examples as keep a run's activations near `RUN_BYTES` in float32, at least one.

    Args:
        n_features: how many features are held, one number a token.
        copies: count copies of examples too, so that there may be more than the task has.
    """
    pos = task.clean.shape[1]
    per_token = _WIDTHS_PER_LAYER * architecture.d_model + 4 * architecture.n_heads * pos
    per_example = 4 * pos * architecture.n_layers * per_token + 8 * architecture.d_vocab
    per_example += 4 * pos * _COPIES * n_features
    fits = max(1, RUN_BYTES // per_example)
    return fits if copies else min(len(task), fits)
