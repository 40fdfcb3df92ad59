"""The options of `trace`, checked."""

from __future__ import annotations

import re

from sae_circuits.errors import OptionError

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B)\s*")


def in_bytes(memory: int | str) -> int:
    """Read a size.

    >>> in_bytes("512MiB"), in_bytes("1.5 GB"), in_bytes(1000)
    (536870912, 1500000000, 1000)

    Raises:
        OptionError: no size, or none above 0.
    """
    size: float = 0
    if isinstance(memory, str):
        found = _SIZE.fullmatch(memory)
        size = float(found[1]) * _UNITS.get(found[2], 0) if found else 0
    elif not isinstance(memory, bool):
        size = memory
    if size < 1:
        raise OptionError(
            f"memory={memory!r} is no size: give bytes, or a number with one of "
            f"{', '.join(_UNITS)}, such as '512MiB'"
        )
    return int(size)


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
