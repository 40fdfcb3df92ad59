"""Sizes of memory, as people write them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sae_circuits.errors import OptionError

UNITS = {"B": 1} | {
    f"{letter}{end}": base**power
    for power, letter in enumerate("KMGT", 1)
    for end, base in (("B", 1000), ("iB", 1024))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%|[KMGT]?i?B)?\s*", re.IGNORECASE)
_UNITS = {name.lower(): size for name, size in UNITS.items()}
# The least of these is a container's share of the machine's memory.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

Memory = int | str
"""Bytes, a size such as "8GiB" or "2.5 GB", or a share of the device's memory such as "50%"."""


def in_bytes(memory: Memory, device: Any = "cpu", *, least: int = 1) -> int:
    """Read a size, or a share of what a device has.

    Args:
        memory: bytes; a number with a unit, such as "512MB" or "8GiB"; or a share, such as "50%",
            of a CUDA device's memory, or else of the machine's (or its container's).
        device: a torch device, or its name.
        least: bytes below which it is refused.

    Raises:
        OptionError: no size, or one that is too small.

    >>> in_bytes("512MiB"), in_bytes("1.5 GB"), in_bytes("1000"), in_bytes(1000)
    (536870912, 1500000000, 1000, 1000)
    """
    size: float = 0
    if isinstance(memory, str):
        found = _SIZE.fullmatch(memory)
        if found is not None and found[2] == "%":
            share = float(found[1])
            size = share / 100 * device_bytes(device) if share <= 100 else 0
        elif found is not None:
            size = float(found[1]) * _UNITS[(found[2] or "B").lower()]
    elif isinstance(memory, int) and not isinstance(memory, bool):
        size = memory
    if size < 1:
        raise OptionError(
            f"memory={memory!r} is no size: give bytes, a number with one of {', '.join(UNITS)}, "
            "such as '512MiB', or a share of the device's memory, such as '50%'"
        )
    if size < least:
        raise OptionError(f"memory={memory!r}: give {said(least)} or more")
    return int(size)


def device_bytes(device: Any = "cpu") -> int:
    """How much memory a device has; of the processor, the machine's or its container's."""
    import torch

    place = torch.device(device)
    if place.type == "cuda":
        if not torch.cuda.is_available():
            raise OptionError(f"{device!r} is not here, to take a share of: give a size in GiB")
        return int(torch.cuda.get_device_properties(place).total_memory)
    limits = [_machine_bytes()]
    for path in LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file; or "max", which is no limit
            continue
    return min(limits)


def said(size: float) -> str:
    """A size as people read it.

    >>> said(1), said(1500), said(9.1 * 2**30)
    ('1 B', '1.5 KiB', '9.1 GiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while size >= 1023.5 and power < len(units) - 1:
        size, power = size / 1024, power + 1
    shown = f"{size:.0f}" if power == 0 or size >= 99.95 else f"{size:.1f}"
    return f"{shown.removesuffix('.0')} {units[power]}"


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # as on Windows
        raise OptionError(
            "this system does not say how much memory it has: give a size, such as '4GiB'"
        ) from None
