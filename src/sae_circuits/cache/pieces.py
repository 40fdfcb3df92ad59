"""What writers put into the stream, a few writers at a time, so that memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.cache.expand import expand_writes, take
from sae_circuits.cache.run import Writes
from sae_circuits.graph import Block, TensorGraph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.precision import wide_dtype


def each_write(
    adapter: Adapter,
    graph: TensorGraph,
    saes: Mapping[str, Placed],
    writes: Writes,
    tokens: Int64[Tensor, "token"],
    seen: tuple[int, int],
    at_most: int,
) -> Iterator[tuple[slice, Float[Tensor, "src token d_model"]]]:
    """The ids of some writers, and what each puts into the stream, in float32 or wider.

    Args:
        saes: the graph's dictionaries by name.
        tokens: which of the batch's, all examples in a row.
        seen: from which writer to which.
        at_most: so many writers at a time.
    """
    dtype = wide_dtype(adapter.dtype)
    for start, block in graph.src_starts.values():
        if not seen[0] <= start < seen[1]:
            continue
        for first in range(0, len(block), at_most):
            n = min(at_most, len(block) - first)
            ids = slice(start + first, start + first + n)
            if block.is_narrow:
                placed, some = saes[f"{block.site}{block.layer}"], slice(first, first + n)
                a = take(writes[f"{placed.name}.f"], tokens, dtype)[:, some]
                yield ids, a.T[:, :, None] * placed.W_dec[some].to(dtype)[:, None]
                continue
            shape = n, len(tokens), adapter.architecture.d_model
            out = torch.empty(shape, dtype=dtype, device=tokens.device)
            part = _part(block, first, n)
            yield ids, expand_writes(adapter, (part,), saes, writes, tokens, out)


def _part(block: Block, first: int, n: int) -> Block:
    if len(block) == n:
        return block
    return replace(block, members=block.members[first : first + n])
