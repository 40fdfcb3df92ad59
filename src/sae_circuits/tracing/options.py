"""The options of `trace`, checked."""

from __future__ import annotations

from sae_circuits.errors import OptionError


def require_options(
    *,
    n_logits: int,
    logit_share: float,
    node_share: float,
    edge_share: float,
    max_nodes: int | None,
    first_position: int,
) -> None:
    """Refuse shares and counts that make no sense.

    Raises:
        OptionError: a share outside of 0 to 1, or a count that is too small or not whole.
    """
    _require_share("logit_share", logit_share)
    _require_share("node_share", node_share)
    _require_share("edge_share", edge_share)
    _require_count("n_logits", n_logits)
    _require_count("max_nodes", max_nodes, least=0)
    _require_count("first_position", first_position, least=0)


def _require_share(name: str, value: float) -> None:
    """Refuse what is not above 0 and at most 1."""
    if not 0 < value <= 1:
        raise OptionError(f"{name}={value!r}: a share is above 0 and at most 1")


def _require_count(name: str, value: int | None, least: int = 1) -> None:
    """Refuse a number that is too small, or that is not whole."""
    if value is not None and (not isinstance(value, int) or value < least):
        raise OptionError(f"{name}={value!r}: give a whole number, at least {least}")
