"""What the page's "Save" wrote: groups, places, notes and filters, to begin another page with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_circuits.errors import FileFormatError
from sae_circuits.io.files import bytes_of, strict_json

FORMAT, KIND, SCHEMA = "sae-circuits", "arrangement", 1


def read_arrangement(path: str | Path | None) -> Mapping[str, Any] | None:
    """Read an arrangement, which the page itself checks against its circuit.

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
    return said
