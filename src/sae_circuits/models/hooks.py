"""Torch hooks that end with their `with` block, also when it raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

See = Callable[[Tensor], Tensor | None]


def first(output: Any) -> Tensor:
    """The tensor of a module's output, where it returns several values."""
    return output[0] if isinstance(output, tuple) else output


def at_home(see: See, home: torch.device | None) -> See:
    """The same on one device, wherever in the model it looks: what comes back goes where it was.

    A tensor that asks for gradients takes the way there and back, so that its gradient is taken on
    that device.
    """
    if home is None:
        return see

    def seen(x: Tensor) -> Tensor | None:
        if x.device == home:
            return see(x)
        near = x.to(home)
        new = see(near)
        if new is None and not near.requires_grad:
            return None
        return (near if new is None else new).to(x.device)

    return seen


@contextmanager
def hooked(module: nn.Module, see: See, home: torch.device | None = None) -> Iterator[None]:
    """Inside, `see` gets the module's output; what it returns, if anything, replaces it.

    Args:
        home: the device on which `see` gets it; its own if None.
    """
    see = at_home(see, home)

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
def hooked_input(module: nn.Module, see: See, home: torch.device | None = None) -> Iterator[None]:
    """Inside, `see` gets the module's first argument; what it returns, if anything, replaces it.

    Args:
        home: as in `hooked`.
    """
    see = at_home(see, home)

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

    def replace(output: Tensor) -> Tensor:
        return (value if output.ndim == 4 else value.flatten(2)).to(output.device)

    with hooked(module, replace):
        yield


class _Reached(Exception):  # noqa: N818  no error, but the end of a run
    """What a run was made for is there: the rest of it need not be made."""


def stopped_at(
    module: nn.Module,
    run: Callable[[], object],
    *,
    before: bool = False,
    home: torch.device | None = None,
) -> Tensor:
    """The output that a module has in a run, or its input `before` it; the run is broken off.

    Args:
        home: the device on which it comes; its own if None.
    """
    found: list[Tensor] = []

    def stop(x: Tensor) -> None:
        found.append(x)
        raise _Reached

    with (hooked_input if before else hooked)(module, stop), suppress(_Reached):
        run()
    return found[0] if home is None else found[0].to(home)
