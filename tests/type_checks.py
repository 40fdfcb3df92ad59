"""Shapes in annotations are checked at run time: at a function's first calls in each test.

A check takes a tenth of a millisecond, and hooks and small functions are called by the thousand:
with every call checked, the tests take three times as long.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

FIRST = 2  # calls of a function in a test

_always = jaxtyping.jaxtyped
_calls: Counter[str] = Counter()
_checked: dict[Any, Callable[..., Any]] = {}
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand for a float


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check what is passed to a function.

    To write the check of a function takes longer than to make it, and one inside of another is made
    anew at every call. What jaxtyping hands over is an empty function with the same signature, so
    that the check of the first serves all that follow.
    """
    if "<locals>" not in function.__qualname__ or function.__defaults__ or function.__kwdefaults__:
        return _check(function)
    code = function.__code__
    kinds = code.co_posonlyargcount, code.co_argcount, code.co_kwonlyargcount, code.co_flags
    annotations = tuple(function.__annotations__.items())
    key = function.__module__, function.__qualname__, code.co_varnames, kinds, annotations
    if key not in _checked:
        _checked[key] = _check(function)
    return _checked[key]


def install() -> None:
    """Have pytest's option `--jaxtyping-packages` check first calls alone.

    What it puts before every function and class of a package is `jaxtyping.jaxtyped`.
    """
    jaxtyping.jaxtyped = at_first_calls


def begin() -> None:
    """Count anew: a test begins."""
    _calls.clear()


def is_due(name: str) -> bool:
    """Whether this call of a function is one of the first."""
    _calls[name] += 1
    return _calls[name] <= FIRST


def at_first_calls(made: Any = None, *, typechecker: Any) -> Any:
    """Decorate as `jaxtyping.jaxtyped` does, for some calls.

    Functions that are made anew inside of another one count as one.
    """
    if made is None:
        return functools.partial(at_first_calls, typechecker=typechecker)
    if not isinstance(made, type):
        return _of_function(made, f"{made.__module__}.{made.__qualname__}", typechecker)
    if dataclasses.is_dataclass(made) and "__init__" in vars(made):
        name = f"{made.__module__}.{made.__qualname__}"
        made.__init__ = _of_function(made.__init__, name, typechecker)
    return made


def _of_function(function: Callable[..., Any], name: str, typechecker: Any) -> Callable[..., Any]:
    checked: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        nonlocal checked
        if not is_due(name):
            return function(*args, **named)
        if checked is None:
            checked = _always(function, typechecker=typechecker)
        return checked(*args, **named)

    return call
