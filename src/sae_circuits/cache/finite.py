"""NaN and infinity, found where they first appear along the forward pass."""

from __future__ import annotations

from sae_circuits.cache.run import Writes
from sae_circuits.errors import NumericalError


def require_finite(writes: Writes, first: int, where: str) -> None:
    """Raise a `NumericalError` that names the first node and example that is not finite.

    Args:
        first: the index of the writes' first example in the task.
        where: of which run they are, for the message.
    """
    for name, x in writes.values.items():
        if bool(x.sum().isfinite()):
            continue
        good = (x.to_dense() if x.is_sparse else x).isfinite()
        if bool(good.all()):
            continue
        example = int((~good).nonzero()[0, 0])
        if x.ndim == 4:  # z has one column a head
            bad_heads = (~good[example]).any(-1).any(0).nonzero()
            name = f"{name}.h{int(bad_heads[0])}"
        raise NumericalError(
            f"{name} of {where} is not finite for example {first + example}: check the model's "
            "weights, its dtype and the prompt"
        )
