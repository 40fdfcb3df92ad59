"""A hash of what decides a result: plain values, tensors, and the code of functions."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor


def fingerprint(value: Any) -> str:
    """A hash that is equal where two values say the same, in this process and in another.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    >>> fingerprint([1, "x"]) == fingerprint([1, "y"])
    False
    """
    said = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """What a value says, in what JSON has."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Tensor):
        held = value.detach().cpu().contiguous()
        return _bytes(held.flatten().view(dtype=torch.uint8).numpy(), value.dtype, value.shape)
    if isinstance(value, np.ndarray):
        return _bytes(value, value.dtype, value.shape)
    if isinstance(value, functools.partial):
        return ["partial", _plain(value.func), _plain(value.args), _plain(value.keywords)]
    if isinstance(value, range) or not isinstance(value, Sequence):
        return _code(value) if callable(value) else repr(value)
    return [_plain(each) for each in value]


def _bytes(array: np.ndarray, dtype: Any, shape: Any) -> list[Any]:
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return [str(dtype), list(shape), digest]


def _code(function: Callable[..., Any]) -> Any:
    """What a function does, as far as can be seen: its code, defaults, and what it closes over.

    Of this library's own functions the name says it, beside the version.
    """
    of = function if hasattr(function, "__qualname__") else type(function)
    name, code = f"{of.__module__}.{of.__qualname__}", getattr(function, "__code__", None)
    is_ours = name.startswith("sae_circuits.")
    if code is not None:
        cells = [_plain(cell.cell_contents) for cell in function.__closure__ or ()]
        seen = [] if is_ours else [_of_code(code), _plain(function.__defaults__ or ()), cells]
        return [name, *seen]
    slots: Any = function if dataclasses.is_dataclass(function) else None
    fields = None if slots is None else [field.name for field in dataclasses.fields(slots)]
    names = fields or [key for key in getattr(function, "__dict__", {}) if key[:2] != "__"]
    call = None if is_ours else getattr(type(function).__call__, "__code__", None)
    own = {key: _plain(getattr(function, key)) for key in names}
    return [name, own, None if call is None else _of_code(call)]


def _of_code(code: CodeType) -> list[Any]:
    constants = [_of_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    digest = hashlib.sha256(code.co_code).hexdigest()
    return [digest, constants, list(code.co_names)]
