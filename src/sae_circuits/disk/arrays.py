"""Arrays in one file with a kind, a schema version and a record: written whole, read in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import FileFormatError

FORMAT = "sae-circuits"


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a file, which stay on disk until they are asked for."""

    path: Path
    record: Mapping[str, Any]

    def __getitem__(self, name: str) -> np.ndarray:
        """A whole array.

        Raises:
            FileFormatError: the file has none of this name.
        """
        try:
            return self._open.get_tensor(name)
        except SafetensorError as error:
            raise FileFormatError(f"{str(self.path)!r} lacks {name!r}: make it again") from error

    def part(self, name: str, start: int, stop: int) -> np.ndarray:
        """Some of the entries of an array."""
        return self._open.get_slice(name)[start:stop]

    @property
    def names(self) -> list[str]:
        """Of all arrays."""
        return sorted(self._open.keys())

    @cached_property
    def _open(self) -> Any:
        return safe_open(self.path, framework="np")


def write_arrays(
    path: str | Path,
    kind: str,
    schema: int,
    arrays: Mapping[str, np.ndarray],
    record: Mapping[str, Any],
) -> Path:
    """Write arrays and a record of plain values to one safetensors file, whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    said = {"format": FORMAT, "kind": kind, "schema": schema, "record": dict(record)}
    each = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return write_whole(path, to_safetensors(each, {FORMAT: json.dumps(said, allow_nan=False)}))


def open_arrays(path: str | Path, kind: str, schema: int) -> Arrays:
    """Open what `write_arrays` wrote.

    Raises:
        FileFormatError: no such file, one that is damaged, of another kind, or of a newer version.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="np") as file:
            said = json.loads((file.metadata() or {})[FORMAT])
    except FileNotFoundError as error:
        raise FileFormatError(f"no file {str(path)!r}") from error
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FileFormatError(
            f"{str(path)!r} is damaged, or no file of {FORMAT}: make it again"
        ) from error
    if said.get("kind") != kind:
        raise FileFormatError(f"{str(path)!r} holds a {said.get('kind')!r}, and not a {kind!r}")
    if said.get("schema") != schema:
        raise FileFormatError(
            f"{str(path)!r} is of schema {said.get('schema')}, and this version of {FORMAT} reads "
            f"{schema}: update {FORMAT}, or make the file again"
        )
    return Arrays(path, said["record"])
