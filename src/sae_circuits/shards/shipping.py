"""Jobs and models as bytes, from one process of a run to another; never from a file.

Tensors on the model's device come out on the device of whoever unpacks them; all others on the CPU.
Cloudpickle takes what users define in a notebook, such as a metric.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import nn

from sae_circuits.errors import WorkerError

_HERE: ContextVar[torch.device] = ContextVar("_HERE")


def pack(value: Any, device: torch.device | str, without: Any = None) -> bytes:
    """A value as bytes.

    Args:
        device: of the model that it is with.
        without: the model, wherever it is in the value: it stays behind.

    Raises:
        TypeError: what no process can hand to another, such as an open file.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, torch.device(device), without).dump(value)
    return buffer.getvalue()


def unpack(data: bytes, device: torch.device | str, model: Any = None) -> Any:
    """The value that `pack` took, with its tensors on a device, and a model where one was."""
    before = _HERE.set(torch.device(device))
    try:
        return _Unpickler(io.BytesIO(data), model).load()
    finally:
        _HERE.reset(before)


def unpack_model(data: bytes, device: torch.device | str) -> Any:
    """A model that `pack` took, on a device, with what it says of its device right."""
    model = unpack(data, device)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return model.to(device) if isinstance(model, nn.Module) else model


def device_of(model: Any) -> torch.device:
    """Where a model has its parameters; the CPU for none."""
    if not isinstance(model, nn.Module):
        return torch.device("cpu")
    return next((p.device for p in _parameters(model)), torch.device("cpu"))


def require_one_device(model: Any) -> None:
    """Refuse a model that is divided over devices: a copy would have to be divided as it is.

    Raises:
        WorkerError: with the devices.
    """
    if not isinstance(model, nn.Module):
        return
    devices = sorted({str(p.device) for p in _parameters(model)})
    if len(devices) > 1:
        raise WorkerError(
            f"the model is divided over {', '.join(devices)}, and cannot be sent to workers: let "
            "each load its own, by workers('auto', load=...), or work in this process"
        )


def _parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    yield from model.parameters()
    wrapped = getattr(model, "original_model", None)
    if isinstance(wrapped, nn.Module):
        yield from wrapped.parameters()


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: Any, device: torch.device, without: Any) -> None:
        super().__init__(file, protocol=5)
        self.device, self.without = device, without

    def persistent_id(self, obj: Any) -> str | None:
        return "model" if obj is self.without and obj is not None else None

    def reducer_override(self, obj: Any) -> Any:
        if _holds_context(obj) and (name := _global_name(obj)) is not None:
            return _global, (type(obj).__module__, name)
        if not isinstance(obj, torch.Tensor) or type(obj) not in (torch.Tensor, nn.Parameter):
            return super().reducer_override(obj)
        held = obj.detach().cpu()
        order = sorted(range(held.ndim), key=lambda i: -held.stride(i))  # as it lies in memory
        held = held.permute(order).contiguous()
        data = held.flatten().view(torch.uint8).numpy()
        kind = obj.requires_grad if isinstance(obj, nn.Parameter) else None
        said = obj.dtype, tuple(held.shape), order, kind, obj.device == self.device
        return _tensor, (data, *said)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, model: Any) -> None:
        super().__init__(file)
        self.model = model

    def persistent_load(self, pid: str) -> Any:
        return self.model


def _tensor(
    data: np.ndarray,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    order: Sequence[int],
    kind: bool | None,
    moves: bool,
) -> torch.Tensor:
    """A tensor, or with `kind` a parameter; laid out as it was, so that products round alike."""
    held = torch.empty(shape, dtype=dtype)  # in torch's own memory, which is aligned as it likes
    held.flatten().view(torch.uint8).copy_(torch.from_numpy(data))
    found = held.permute([order.index(i) for i in range(len(order))])
    found = found.to(_HERE.get()) if moves else found
    return found if kind is None else nn.Parameter(found, requires_grad=kind)


# transformers' hooks close over variables of their module that hold a context, which has no bytes:
# the other process has such a variable of its own.


def _holds_context(obj: Any) -> bool:
    own = getattr(obj, "__dict__", None)
    return type(own) is dict and any(type(x) is ContextVar for x in own.values())


def _global_name(obj: Any) -> str | None:
    module = vars(sys.modules[type(obj).__module__])
    return next((name for name, value in module.items() if value is obj), None)


def _global(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
