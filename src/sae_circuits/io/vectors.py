"""Vectors of others, by name, from a file of safetensors."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sae_circuits.errors import FileFormatError
from sae_circuits.io.files import bytes_of


def read_vectors(path: str | Path) -> dict[str, Tensor]:
    """Each vector by its name, in the order of the names; those that are [1, n] as [n].

    Raises:
        FileFormatError: no such file, another format, no tensor, or one that is no vector.
    """
    path = Path(path)
    data = bytes_of(path)
    try:
        found = load(data)
    except (SafetensorError, ValueError) as error:
        raise FileFormatError(
            f"{str(path)!r} is no file of safetensors: {error}; write one with "
            "safetensors.torch.save_file({name: vector}, path)"
        ) from error
    if not found:
        raise FileFormatError(f"{str(path)!r} holds no vector")
    vectors = {name: x[0] if x.ndim == 2 and len(x) == 1 else x for name, x in found.items()}
    for name, x in vectors.items():
        if x.ndim != 1:
            raise FileFormatError(
                f"{str(path)!r}: {name!r} is {list(x.shape)}, and a vector [n] is needed"
            )
    return dict(sorted(vectors.items()))
