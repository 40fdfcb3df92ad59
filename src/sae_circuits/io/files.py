"""Saving and loading: one file a value, whole or not at all, and refused when not as written.

Scores are safetensors, all else is JSON. Both carry a kind, a schema version and a checksum over
everything they say: see docs/files.md.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from sae_circuits._version import __version__
from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import CircuitsError, FileFormatError, OutputError
from sae_circuits.io.codec import from_plain, kind_of, kinds, to_plain

FORMAT, SCHEMA = "sae-circuits", 2
SAVED = (
    "scores", "sampled_scores", "pair_scores", "virtual_weights", "node_values", "circuit",
    "span_circuit", "attribution_graph", "curve", "minimality", "report", "cell", "benchmark",
    "steered", "clusters",
)  # fmt: skip
TENSORS: Mapping[str, tuple[str, ...]] = {  # of kinds that are safetensors
    "scores": ("values",),
    "sampled_scores": ("values", "each", "sizes"),
    "pair_scores": ("ids", "values"),
    "virtual_weights": ("features", "into_ids", "into_values", "of_ids", "of_values"),
    "node_values": ("vector",),
}

Value = TypeVar("Value")


def save(value: object, path: str | Path) -> Path:
    """Write scores or values of nodes (`.safetensors`), or another value (`.json`), to one file.

    Those are a circuit, an attribution graph, a curve, a minimality, a report, a benchmark with its
    cells, what steering does, and clusters.

    Raises:
        OutputError: the suffix does not fit the value, or the place cannot be written.
        FileFormatError: a value that files do not hold.
    """
    path, kind = Path(path), kind_of(value)
    if kind not in SAVED:
        raise FileFormatError(
            f"cannot save a {type(value).__name__}: only {', '.join(SAVED)} are saved to files"
        )
    suffix = ".safetensors" if kind in TENSORS else ".json"
    if path.suffix != suffix:
        raise OutputError(f"cannot save {kind} as {str(path)!r}: end the name in {suffix!r}")
    if kind in TENSORS:
        return write_whole(path, _tensors_bytes(kind, value))
    header = {**_header(kind), "content": to_plain(value)}
    text = _dumps({**header, "sha256": _digest(header)})
    return write_whole(path, text + "\n")


@overload
def load(path: str | Path) -> Any: ...
@overload
def load(path: str | Path, expected: type[Value]) -> Value: ...
def load(path: str | Path, expected: type | None = None) -> Any:
    """Read what `save` wrote. It needs no model, and nothing in the file is executed.

    Args:
        expected: refuse a file that holds another kind of value.

    Raises:
        FileFormatError: the file is missing, damaged, truncated, changed by hand, of another
            kind, or of a newer version.
    """
    path = Path(path)
    data = bytes_of(path)
    value = _load_tensors(path) if _is_safetensors(data) else _load_json(path, data)
    if expected is not None and not isinstance(value, expected):
        wanted = next(name for name, made in kinds().items() if made is expected)
        raise FileFormatError(f"{str(path)!r} holds {kind_of(value)}, and {wanted} is needed")
    return value


def bytes_of(path: Path) -> bytes:
    """What a file holds, unless torch.save or pickle wrote it: to read that is to run code in it.

    Raises:
        FileFormatError: the file cannot be opened, or is a pickle.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise FileFormatError(f"cannot read {str(path)!r}: {reason}") from error
    if not _is_safetensors(data) and (data[:4] == b"PK\x03\x04" or data[:1] == b"\x80"):
        raise FileFormatError(
            f"{str(path)!r} is a pickle (as torch.save writes), and to load it would run the code "
            "in it: write JSON instead (in EAP-IG: Graph.from_pt(path).to_json(other_path))"
        )
    return data


def _is_safetensors(data: bytes) -> bool:
    """Whether data begins with the length of a JSON header in eight bytes, and then the header."""
    return b"\0" in data[:8] and data[8:9] == b"{"


def strict_json(path: Path, data: bytes) -> Any:
    """Parse JSON, without the NaN that Python's parser lets through.

    Raises:
        FileFormatError: the data is not JSON.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{str(path)!r} is damaged or truncated: {error}; write it again"
        ) from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _header(kind: str) -> dict[str, object]:
    return {"format": FORMAT, "schema": SCHEMA, "kind": kind, "written_by": __version__}


def _dumps(plain: object) -> str:
    return json.dumps(plain, allow_nan=False, ensure_ascii=False)


def _digest(plain: object, *tensors: Tensor) -> str:
    """The SHA-256 of all that a file says, however its JSON is spaced or ordered."""
    canonical = json.dumps(plain, allow_nan=False, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors_bytes(kind: str, value: Any) -> bytes:
    """The tensors by name, and all else as one JSON text: several would come in random order."""
    tensors = {name: getattr(value, name).detach().cpu().contiguous() for name in TENSORS[kind]}
    rest = [field.name for field in fields(value) if field.name not in tensors]
    content = to_plain({name: getattr(value, name) for name in rest})
    header = {**_header(kind), "content": content}
    said = _dumps({**header, "sha256": _digest(header, *tensors.values())})
    return to_safetensors(tensors, {FORMAT: said})


def _load_tensors(path: Path) -> Any:
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(FORMAT, "null")
            header = strict_json(path, said.encode())
            header = header if isinstance(header, dict) else {}
            kind = str(header.get("kind"))
            tensors = {name: file.get_tensor(name) for name in TENSORS.get(kind, ())}
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(
            f"{str(path)!r} is damaged or truncated: {error}; write it again"
        ) from error
    content = _checked(path, header, *tensors.values())
    return _made(path, {"$kind": kind, **content}, **tensors)


def _load_json(path: Path, data: bytes) -> Any:
    document = strict_json(path, data)
    return _made(path, _checked(path, document if isinstance(document, dict) else {}))


def _checked(path: Path, header: dict[str, Any], *tensors: Tensor) -> Any:
    """The content of a file whose header says that it is ours, not newer, and unchanged."""
    if header.get("format") != FORMAT or header.get("kind") not in SAVED:
        raise FileFormatError(
            f"{str(path)!r} was not written by sae-circuits' save (a corpus is read by "
            "Corpus.load, a graph of EAP-IG or MIB by sae_circuits.io.import_eap_ig, one of "
            "Neuronpedia or circuit-tracer by sae_circuits.io.from_neuronpedia)"
        )
    schema = header.get("schema")
    if not isinstance(schema, int):
        raise FileFormatError(f"{str(path)!r} is damaged: its schema version is {schema!r}")
    if schema > SCHEMA:
        raise FileFormatError(
            f"{str(path)!r} is in schema {schema}, written by sae-circuits "
            f"{header.get('written_by')}; this version ({__version__}) reads up to {SCHEMA}: "
            "upgrade with 'pip install --upgrade sae-circuits'"
        )
    said = {name: item for name, item in header.items() if name != "sha256"}
    if header.get("sha256") != _digest(said, *tensors):
        raise FileFormatError(
            f"{str(path)!r} is damaged or was changed by hand: its checksum does not fit; write it "
            "again, or build the value in Python"
        )
    return header["content"]


def _made(path: Path, content: Any, **more: Any) -> Any:
    try:
        if more:
            content = {**content}
            kind = kinds()[content.pop("$kind")]
            return kind(**{name: from_plain(item) for name, item in content.items()}, **more)
        return from_plain(content)
    except (CircuitsError, TypeError, KeyError, ValueError, AttributeError, zlib.error) as error:
        raise FileFormatError(f"{str(path)!r} does not hold what it says: {error}") from error
