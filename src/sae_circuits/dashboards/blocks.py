"""`Block`: some features in a file of data beside a page, which a run that was stopped takes up.

A block's key is a hash of all that decides what is in it, and the file begins with the key and with
a hash of what follows: a file that was cut off, changed, or made of other data is never used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae_circuits.dashboards.page import script_json
from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import OptionError

DATA = "data"
NAME = re.compile(r"\d{5,}\.js")
HEADER = re.compile(rb"// sae-circuits block, key ([0-9a-f]{64}), content ([0-9a-f]{64})\n")
CALL = b"dashboard.block(", b");\n"
PART = re.compile(r"\.(index\.html|\d{5,}\.js)\.[0-9a-f]{8}\.part")


@dataclass(frozen=True)
class Block:
    """Features that stand in one file.

    Args:
        number: of the block, from 0.
        ids: of the features.
        key: a hash of all that decides what is in it.
    """

    number: int
    ids: tuple[int, ...]
    key: str

    @property
    def name(self) -> str:
        """Of the file, from the page's folder on."""
        return f"{DATA}/{self.number:05}.js"

    @property
    def mark(self) -> str:
        """What the page tells the file by."""
        return self.key[:16]

    def body(self, content: Mapping[str, Any]) -> bytes:
        """What the file says, but for its first line."""
        said = {"number": self.number, "key": self.mark, **content}
        return CALL[0] + script_json(said).encode() + CALL[1]

    def write(self, folder: Path, body: bytes) -> Path:
        """Write what the features show, whole or not at all."""
        digest = hashlib.sha256(body).hexdigest()
        header = f"// sae-circuits block, key {self.key}, content {digest}\n"
        return write_whole(folder / self.name, header.encode() + body)

    def read(self, folder: Path) -> dict[str, Any] | None:
        """What the file says; None where there is none that is whole and of this key."""
        body = self._body(folder)
        return None if body is None else json.loads(body[len(CALL[0]) : -len(CALL[1])])

    def finished(self, folder: Path) -> bool:
        """Whether the file is there, whole and of this key."""
        return self._body(folder) is not None

    def _body(self, folder: Path) -> bytes | None:
        try:
            data = (folder / self.name).read_bytes()
        except OSError:
            return None
        found = HEADER.match(data)
        if found is None or found[1].decode() != self.key:
            return None
        body = data[found.end() :]
        return body if hashlib.sha256(body).hexdigest().encode() == found[2] else None


def planned(ids: Sequence[int], size: int, made_of: Any) -> list[Block]:
    """Blocks of features in the order asked for.

    Args:
        size: how many features each holds.
        made_of: all else that decides what is in them, in plain values, tensors and dataclasses.

    Raises:
        OptionError: no size, or a value of another kind.

    >>> [block.ids for block in planned([3, 1, 4], 2, {"hover": 5})]
    [(3, 1), (4,)]
    """
    if size < 1:
        raise OptionError(f"block={size}: a block holds 1 feature or more")
    said = plainly(made_of)
    parts = [tuple(ids[start : start + size]) for start in range(0, len(ids), size)]
    return [Block(i, part, key_of([said, i, part])) for i, part in enumerate(parts)]


def key_of(value: Any) -> str:
    """A hash of plain values, tensors and dataclasses: equal only where they are."""
    return hashlib.sha256(json.dumps(plainly(value), sort_keys=True).encode()).hexdigest()


def plainly(value: Any) -> Any:
    """A value as JSON can say it, with hashes of arrays: equal only where the values are.

    Raises:
        OptionError: a value that nothing can be told of, such as a function.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        return plainly(value.detach().cpu().double().numpy())
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": digest}
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: plainly(asdict(value))}
    if isinstance(value, Mapping):
        return {str(key): plainly(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plainly(item) for item in value]
    raise OptionError(f"an option is {value!r}, and what it decides cannot be told from it")


def left_over(folder: Path, blocks: Sequence[Block]) -> Iterator[Path]:
    """Files of data that no block has, and parts of files that a killed run has left."""
    names = {block.name for block in blocks}
    for path in sorted((folder / DATA).glob("*.js")):
        if NAME.fullmatch(path.name) and f"{DATA}/{path.name}" not in names:
            yield path
    for where in (folder, folder / DATA):
        yield from (p for p in sorted(where.glob(".*.part")) if PART.fullmatch(p.name))
