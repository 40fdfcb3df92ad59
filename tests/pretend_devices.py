"""Devices that are none: tensors in ordinary memory that say they are on `lazy:0` or `lazy:1`.

A tensor on a pretended device holds an ordinary one and behaves as one on a GPU would. Operands of
different devices are refused where CUDA refuses them; what comes of an operation is where its
operands are; numpy sees nothing of it before `.cpu()`. So what would break on a GPU, or on a model
whose layers are on several, breaks here. "lazy" is a device type of torch's own which nothing uses,
and whose gradients are computed in the calling thread.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

KIND = "lazy"
ANYWHERE = {"copy_", "_to_copy", "set_", "_copy_from"}  # operations that join devices
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}


def pretended(index: int = 0) -> torch.device:
    """A device that is none."""
    return torch.device(KIND, index)


class WrongDeviceError(RuntimeError):
    """Operands of an operation are on different devices."""


class Pretended(Tensor):
    """An ordinary tensor that says it is on another device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> Pretended:
        strided = held.layout == torch.strided
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride() if strided else None,
            storage_offset=held.storage_offset() if strided else None,
            dtype=held.dtype,
            layout=held.layout,
            device=device,
        )
        made.held = held
        return made

    def __init__(self, held: Tensor, device: torch.device) -> None:
        pass

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.held}, {self.device})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _on_devices(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"{self.device} tensor: numpy needs .cpu() first, as for one on a GPU")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()


class Devices(TorchDispatchMode):
    """Inside, tensors can be made on pretended devices and moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _on_devices(func, args, kwargs or {})

    def __enter__(self) -> Any:
        # Else `torch.tensor(..., device=...)` would move what it makes where no mode sees it.
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *raised: Any) -> Any:
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*raised)


def _on_devices(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, on the device of its operands or on the one that is asked for."""
    name = func._schema.name.removeprefix("aten::")
    found = _device(name, args, kwargs)
    asked = kwargs.get("device")
    to = torch.device(asked) if asked is not None else found
    if to.type == KIND and asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    wrappers: dict[int, Tensor] = {}

    def bare(x: Any) -> Any:
        if isinstance(x, Pretended):
            wrappers[id(x.held)] = x
            return x.held
        return x

    out = func(*tree_map(bare, args), **tree_map(bare, kwargs))

    def dressed(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if id(x) in wrappers:  # changed in place
            return wrappers[id(x)]
        return Pretended(x, to) if to.type == KIND and not isinstance(x, Pretended) else x

    return tree_map(dressed, out)


def _device(name: str, args: Any, kwargs: dict[str, Any]) -> torch.device:
    """Where an operation is done; refused where its operands are on several devices."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    if not tensors:
        return torch.device("cpu")
    if name in ANYWHERE:
        return tensors[0].device
    if name in INDEXING:  # places may be on the CPU, as for CUDA
        tensors = [x for i, x in enumerate(tensors) if i == 0 or x.device.type != "cpu" or x.ndim]
        places = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor)]
        tensors = [x for x in tensors if not any(x is p and not _pretends(p) for p in places)]
    wide = [x for x in tensors if x.ndim or _pretends(x)]  # a number on the CPU goes with all
    devices = {x.device for x in wide} or {tensors[0].device}
    if len(devices) > 1:
        raise WrongDeviceError(f"{name}: operands on {sorted(map(str, devices))}")
    return devices.pop()


def _pretends(x: Tensor) -> bool:
    return isinstance(x, Pretended)


@contextmanager
def devices() -> Iterator[None]:
    """Inside, there are pretended devices."""
    with Devices():
        yield


def placed(model: nn.Module, where: Callable[[str], torch.device]) -> Any:
    """A copy of a model with every parameter and buffer on the device for its name."""
    model, seen = copy.deepcopy(model), dict[int, Tensor]()

    def move(name: str, x: Tensor) -> Tensor:
        if id(x) not in seen:  # tied weights stay tied
            new = Pretended(x.detach(), where(name))
            seen[id(x)] = (
                nn.Parameter(new, requires_grad=x.requires_grad)
                if isinstance(x, nn.Parameter)
                else new
            )
        return seen[id(x)]

    for prefix, module in model.named_modules(remove_duplicate=False):
        for held in (module._parameters, module._buffers):
            for name, x in held.items():
                if x is not None and not isinstance(x, Pretended):
                    held[name] = move(f"{prefix}.{name}", x)  # type: ignore[assignment]
    return model
