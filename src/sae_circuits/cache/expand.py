"""What writers put into the stream, at the width of the stream."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.cache.run import Writes
from sae_circuits.graph import Block
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed


def expand_writes(
    adapter: Adapter,
    blocks: tuple[Block, ...],
    saes: Mapping[str, Placed],
    writes: Writes,
    some: Int64[Tensor, "token"],
    out: Float[Tensor, "src token d_model"],
) -> Float[Tensor, "src token d_model"]:
    """Write what every writer of some blocks puts into the stream for some tokens to `out`."""
    for block, rows in zip(blocks, out.split(list(map(len, blocks))), strict=True):
        layer, part = block.layer, f"{block.site}{block.layer}"
        if layer is None:
            rows[0] = take(writes["input"], some, out.dtype)
        elif block.kind == "mlp":
            rows[0] = take(writes[f"m{layer}"], some, out.dtype)
        elif block.kind == "skip":
            rows[0] = take(writes[f"{part}.skip"], some, out.dtype)
        elif block.is_narrow:
            a = take(writes[f"{part}.f"], some, out.dtype)
            torch.mul(a.T[:, :, None], saes[part].W_dec.to(out.dtype)[:, None], out=rows)
        elif block.kind == "error":
            rows[0] = _rest(adapter, saes[part], writes, some, out.dtype)
        else:
            chosen = chosen_heads(block, adapter.architecture.n_heads)
            z = take(writes[f"a{layer}"], some, out.dtype)[:, chosen]
            W = adapter.W_write_there(layer)[chosen].to(out.dtype)
            rows.copy_(torch.bmm(z.transpose(0, 1).to(W.device), W))
    return out


def _rest(
    adapter: Adapter,
    placed: Placed,
    writes: Writes,
    some: Int64[Tensor, "token"],
    dtype: torch.dtype,
) -> Float[Tensor, "token d_model"]:
    """What an error node writes: the whole minus features and skip term."""
    rest = take(writes[placed.name], some, dtype)
    if placed.part == "a":
        W = adapter.W_write(placed.layer).to(dtype)
        rest = rest.flatten(1) @ W.flatten(0, 1)
    if len(placed.chosen):
        a = take(writes[f"{placed.name}.f"], some, dtype)
        rest = rest - a @ placed.W_dec.to(dtype)
    if placed.dictionary.has_skip:
        rest = rest - take(writes[f"{placed.name}.skip"], some, dtype)
    return rest


def take(x: Tensor, some: Int64[Tensor, "token"], dtype: torch.dtype) -> Tensor:
    """Some tokens of a [batch, pos, ...] tensor."""
    return x.flatten(0, 1)[some].to(dtype)


def chosen_heads(block: Block, n: int) -> slice | list[int]:
    """An index of a block's members among n heads, which copies nothing where it is all."""
    return slice(None) if len(block) == n else list(block.members)
