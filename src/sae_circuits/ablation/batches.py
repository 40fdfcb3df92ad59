"""How many examples go through the model at a time."""

from __future__ import annotations

from sae_circuits.costs.memory import SHARE, SPACE, Batching, Need, run_need
from sae_circuits.costs.shape import Shape
from sae_circuits.errors import OptionError
from sae_circuits.models.adapter import Adapter
from sae_circuits.sizes import Memory, in_bytes
from sae_circuits.tasks import Task


def shape_of(adapter: Adapter) -> Shape:
    """The sizes of a model that is at hand."""
    return Shape(
        adapter.architecture,
        adapter.dtype.itemsize,
        gated=bool(getattr(adapter.model.cfg, "gated_mlp", False)),
        hooked=adapter.is_hooked,
    )


def batching(
    adapter: Adapter,
    need: Need,
    most: int,
    *,
    memory: Memory | None = None,
    batch_size: int | None = None,
    what: str = "this call",
) -> Batching:
    """Examples at a time and bytes of work spaces: those that are asked for, or that a budget has.

    Args:
        need: what the call takes.
        most: examples, at most.
        memory: what it may take beside the model's weights.
        batch_size: goes before `memory`.
        what: takes it, for the message.

    Raises:
        OptionError: a budget that one example does not fit, what is no size, or a batch of none.
    """
    device = adapter.device
    budget = None if memory is None else in_bytes(memory, device)
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise OptionError(f"batch_size={batch_size!r}: give a whole number of examples, 1 or more")
    if batch_size is None:
        return need.within(budget, most, device=device.type, what=what)
    space = SPACE.get(device.type, SPACE["other"])
    return Batching(batch_size, max(need.least, min(space, (budget or SHARE * space) // SHARE)))


def default_batch_size(
    adapter: Adapter,
    task: Task,
    n_features: int = 0,
    *,
    memory: Memory | None = None,
    gradient: bool = False,
) -> int:
    """As many examples as a run of the model with `n_features` beside it has memory for.

    Args:
        n_features: how many features are held, one number a token.
        memory: what the run may take beside the model's weights.
        gradient: whether it goes back, too.

    Raises:
        OptionError: a budget that one example does not fit, or what is no size.
    """
    pos = task.clean.shape[1]
    need = run_need(shape_of(adapter), pos, n_features, gradient=gradient)
    what = f"one prompt of {pos:,} tokens"
    return batching(adapter, need, len(task), memory=memory, what=what).size
