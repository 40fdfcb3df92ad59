"""What readers see of the metric's gradient, at the width of the stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.gradients import Gradients
from sae_circuits.cache.expand import chosen_heads, take
from sae_circuits.graph import Block
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.norms import Norm


@dataclass(frozen=True, eq=False)
class Reader:
    """One block of readers of vectors, with P (w * W_v) made once for all chunks of tokens."""

    s: Tensor
    W: Float[Tensor, "dest d_head d_model"] | None
    norm: Norm | None
    chosen: slice | list[int]
    along: tuple[Tensor, ...] = ()
    normed: tuple[Float[Tensor, "batch pos d_model"], ...] = ()

    @classmethod
    def of(
        cls,
        adapter: Adapter,
        gradients: Gradients,
        block: Block,
        kept: dict[Block, Tensor] | None = None,
    ) -> Reader:
        """Prepare the readers of a block.

        Args:
            kept: weights with the norm in them, for other calls on the same model.
        """
        if block.layer is None:
            return cls(gradients.at["final", 0], None, None, slice(None))
        layer, every = block.layer, slice(None)
        if block.site is not None:  # already pulled back to the stream
            return cls(gradients.at[f"{block.site}.{block.kind}", layer], None, None, every)
        place = (block.port or "mlp", layer)
        is_mlp, s, W = block.kind == "mlp", gradients.at[place], None
        norm = adapter.mlp_norm(layer) if is_mlp else adapter.attn_norm(layer)
        chosen: slice | list[int] = every
        if not is_mlp:
            chosen = chosen_heads(block, s.shape[2])
            W = None if kept is None else kept.get(block)
            W = _folded(adapter, block, s, chosen, norm) if W is None else W
            if kept is not None:
                kept[block] = W
        if norm is None:
            return cls(s, W, norm, chosen)
        along, normed = gradients.along[place], gradients.normed[is_mlp, layer]
        return cls(s, W, norm, chosen, along, normed)

    def write(self, some: Int64[Tensor, "token"], out: Float[Tensor, "dest token d_model"]) -> None:
        """Write g_v for some tokens to `out`."""
        s = take(self.s, some, out.dtype)
        if self.W is not None:
            torch.bmm(s[:, self.chosen].transpose(0, 1), self.W, out=out)
        else:
            out[0] = s if self.norm is None else self.norm.centre(self.norm.gain(s))
        if self.norm is not None:
            c = [take(c, some, out.dtype)[:, self.chosen] for c in self.along]
            x = [take(x, some, out.dtype) for x in self.normed]
            out.transpose(0, 1).baddbmm_(torch.stack(c, -1), torch.stack(x, 1), alpha=-1)


def _folded(
    adapter: Adapter,
    block: Block,
    s: Float[Tensor, "batch pos head d_head"],
    chosen: slice | list[int],
    norm: Norm | None,
) -> Float[Tensor, "dest d_head d_model"]:
    """P (w * W_v) of the heads of a block."""
    assert block.layer is not None
    assert block.port is not None
    W = adapter.W_in(block.layer, block.port)
    if len(W) < s.shape[2]:  # a shared key, read apart
        W = W.repeat_interleave(s.shape[2] // len(W), 0)
    W = W[chosen].to(s.dtype).transpose(1, 2)
    return (W if norm is None else norm.centre(norm.gain(W))).contiguous()
