"""Large arrays in one safetensors file: written whole or not at all, read without a copy.

The file's metadata has one JSON text: the format, the kind, the schema's version, what the writer
adds, and a checksum over all of it and the arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from sae_circuits._version import __version__
from sae_circuits.errors import FileFormatError, OutputError
from sae_circuits.io.atomic import write_whole
from sae_circuits.io.files import FORMAT, strict_json

Arrays = Mapping[str, np.ndarray]


def write_arrays(
    path: str | Path, kind: str, schema: int, arrays: Arrays, about: Mapping[str, Any]
) -> Path:
    """Write arrays to one file.

    Args:
        path: ends in ".safetensors".
        kind: what the file holds, in one word.
        schema: the version of its layout.
        about: more to keep, as JSON has it.

    Raises:
        OutputError: another suffix, or a place that cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise OutputError(f"cannot save a {kind} as {str(path)!r}: end the name in '.safetensors'")
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = {
        "format": FORMAT, "kind": kind, "schema": schema, "written_by": __version__, **about
    }  # fmt: skip
    said = json.dumps({**header, "sha256": _digest(header, arrays)}, allow_nan=False)
    return write_whole(path, to_safetensors(dict(arrays), {FORMAT: said}))


def read_arrays(
    path: str | Path, kind: str, schema: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_arrays` wrote: the arrays, mapped from the disk, and what else it says.

    Args:
        kind: what the file has to hold.
        schema: the newest version of its layout that can be read.

    Raises:
        FileFormatError: the file is missing, damaged, of another kind, or of a newer version.
    """
    path = Path(path)
    try:
        # As torch's tensors, which are mapped from the disk; numpy's would be copied.
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(FORMAT, "null")
            arrays = {name: file.get_tensor(name).numpy() for name in sorted(file.keys())}
    except FileNotFoundError as error:
        raise FileFormatError(f"cannot read {str(path)!r}: there is no such file") from error
    except (SafetensorError, OSError) as error:
        raise FileFormatError(
            f"{str(path)!r} is damaged, or no safetensors file: {error}; write it again"
        ) from error
    header = strict_json(path, said.encode())
    return arrays, _checked(path, header if isinstance(header, dict) else {}, kind, schema, arrays)


def _checked(
    path: Path, header: dict[str, Any], kind: str, schema: int, arrays: Arrays
) -> dict[str, Any]:
    if header.get("format") != FORMAT or header.get("kind") != kind:
        found = header.get("kind", "something else")
        raise FileFormatError(f"{str(path)!r} holds {found}, and a {kind} is needed")
    version = header.get("schema")
    if not isinstance(version, int):
        raise FileFormatError(f"{str(path)!r} is damaged: its schema version is {version!r}")
    if version > schema:
        raise FileFormatError(
            f"{str(path)!r} is in schema {version}, written by sae-circuits "
            f"{header.get('written_by')}; this version ({__version__}) reads up to {schema}: "
            "upgrade with 'pip install --upgrade sae-circuits'"
        )
    if header.pop("sha256", None) != _digest(header, arrays):
        raise FileFormatError(
            f"{str(path)!r} is damaged or was changed by hand: its checksum does not fit; write it "
            "again"
        )
    return header


def _digest(header: Mapping[str, Any], arrays: Arrays) -> str:
    """The SHA-256 of all that a file says."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        digest.update(memoryview(arrays[name]).cast("B") if arrays[name].size else b"")
    return digest.hexdigest()
