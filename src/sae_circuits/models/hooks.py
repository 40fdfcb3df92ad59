"""Torch hooks that end with their `with` block, also when it raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


def first(output: Any) -> Tensor:
    """The tensor of a module's output, where it returns several values."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def hooked(module: nn.Module, see: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Inside, `see` gets the module's output; what it returns, if anything, replaces it."""

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        new = see(first(output))
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def hooked_input(module: nn.Module, see: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Inside, `see` gets the module's first argument; what it returns, if anything, replaces it."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = see(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        name = next(iter(kwargs))
        new = see(kwargs[name])
        return None if new is None else (args, {**kwargs, name: new})

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def hooked_pair(module: nn.Module, see: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Inside, `see` gets the module's first argument and its output, which it replaces."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return see(args[0] if args else next(iter(kwargs.values())), output)

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replaced_heads(
    module: nn.Module, value: Float[Tensor, "batch pos head d_head"]
) -> Iterator[None]:
    """Inside, the module's output is this value, with its heads joined where the module's are."""
    with hooked(module, lambda output: value if output.ndim == 4 else value.flatten(2)):
        yield


class _Reached(Exception):  # noqa: N818  no error, but the end of a run
    """What a run was made for is there: the rest of it need not be made."""


def stopped_at(module: nn.Module, run: Callable[[], object], *, before: bool = False) -> Tensor:
    """The output that a module has in a run, or its input `before` it; the run is broken off."""
    found: list[Tensor] = []

    def stop(x: Tensor) -> None:
        found.append(x)
        raise _Reached

    with (hooked_input if before else hooked)(module, stop), suppress(_Reached):
        run()
    return found[0]
