"""How a model called its attentions, to call them again."""

from __future__ import annotations

from typing import Any

from torch import Tensor

Call = tuple[tuple[Any, ...], dict[str, Any]]
STREAM_ARGUMENTS = ("query_input", "key_input", "value_input", "hidden_states")
CACHE_ARGUMENTS = ("past_kv_cache_entry", "past_key_value", "past_key_values", "layer_past")


def one_row(call: Call, batch: int) -> Call:
    """The same call for any batch size: tensors whose rows are all equal keep one row.

    Prompts hold no padding on their left, so nothing that a model computes for its attentions
    (positions, masks) differs between the rows of a batch.
    """

    def shrink(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(shrink(v) for v in value)
        if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] == batch > 1:
            return value[:1] if bool((value == value[:1]).all()) else value
        return value

    args, kwargs = call
    kept = {k: v if k in STREAM_ARGUMENTS else shrink(v) for k, v in kwargs.items()}
    return (*args[:1], *map(shrink, args[1:])), kept
