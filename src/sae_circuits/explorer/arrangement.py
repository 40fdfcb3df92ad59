"""What the page's "Save" wrote: groups, places, notes and filters, to begin another page with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError
from sae_circuits.io.files import bytes_of, strict_json

FORMAT, KIND, SCHEMA = "sae-circuits", "arrangement", 1


def read_arrangement(path: str | Path | None) -> Mapping[str, Any] | None:
    """Read an arrangement, whose state the page itself checks against its circuit.

    Raises:
        FileFormatError: no such file, one of another kind, or of a newer version.
    """
    if path is None:
        return None
    path = Path(path)
    said = strict_json(path, bytes_of(path))
    if not isinstance(said, dict) or (said.get("format"), said.get("kind")) != (FORMAT, KIND):
        raise FileFormatError(f"{str(path)!r} is no arrangement: the explorer's Save writes one")
    schema = said.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise FileFormatError(
            f"{str(path)!r} is in schema {schema}, and this version reads up to {SCHEMA}: upgrade "
            "with 'pip install --upgrade sae-circuits'"
        )
    if not isinstance(said.get("state"), dict):
        raise FileFormatError(f"{str(path)!r} holds no state: save it again")
    return said


def require_of(arrangement: Mapping[str, Any], nodes: Sequence[str], path: str | Path) -> None:
    """Refuse an arrangement that names nodes of which the circuit has none.

    Raises:
        FileFormatError: it is of another circuit.
    """
    groups = arrangement["state"].get("groups")
    members = [one.get("members") for one in groups.values()] if isinstance(groups, dict) else []
    named = [name for some in members if isinstance(some, list) for name in some]
    if named and not set(named) & set(nodes):
        raise FileFormatError(f"{str(path)!r} is of another circuit: this one has no {named[0]!r}")
