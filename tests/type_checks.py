"""What checks shapes at run time: beartype, asked once for each signature.

A function inside of another one is made anew at every call, hooks by the thousand, and jaxtyping
has each of them checked anew. What it hands over is an empty function with the same signature, so
that the check that was made of the first serves all that follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked: dict[Any, Callable[..., Any]] = {}
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand for a float


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check what is passed to a function at every call."""
    if "<locals>" not in function.__qualname__ or function.__defaults__ or function.__kwdefaults__:
        return _check(function)
    code = function.__code__
    kinds = code.co_posonlyargcount, code.co_argcount, code.co_kwonlyargcount, code.co_flags
    annotations = tuple(function.__annotations__.items())
    key = function.__module__, function.__qualname__, code.co_varnames, kinds, annotations
    if key not in _checked:
        _checked[key] = _check(function)
    return _checked[key]
