"""Small models, on which methods are checked: with random weights, or to be filled by hand."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import nn


def random_model(*, seed: int = 0, linear: bool = False, dtype: torch.dtype = torch.float64) -> Any:
    """Make a two-layer `HookedTransformer` of four heads a layer, d_model 16, 30 tokens.

    Args:
        seed: of the weights.
        linear: no norm, the identity for the MLPs' activation, and constant attention patterns,
            so that the logits are linear in every writer.
        dtype: of the weights.
    """
    model = _made(
        n_layers=2, d_model=16, n_heads=4, d_head=5, d_mlp=24, n_ctx=12, d_vocab=30,
        act_fn="gelu_new", normalization_type=None if linear else "LN", dtype=dtype,
        model_name="random", seed=seed,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            scale = 1.0 if "embed.W_E" in name else 1 / math.sqrt(max(parameter.shape[-2:] or (1,)))
            parameter.copy_(0.3 * drawn + 1 if name.endswith(".w") else scale * drawn)
        for block in model.blocks if linear else ():
            for weight in (block.attn.W_Q, block.attn.W_K, block.attn.b_K):
                weight.zero_()
    return linearised(model) if linear else model


@torch.no_grad()
def zero_model(name: str, **sizes: int) -> Any:
    """Make a `HookedTransformer` in float64 whose weights are all 0, to be filled by hand.

    It has no norms, relu in its MLPs, and attention scores that are not scaled.

    Args:
        name: of the model.
        sizes: n_layers, n_heads, d_model, d_head, d_mlp, d_vocab and n_ctx.
    """
    model = _made(
        **sizes, act_fn="relu", normalization_type=None, use_attn_scale=False,
        dtype=torch.float64, model_name=name,
    )  # fmt: skip
    for parameter in model.parameters():
        parameter.zero_()
    return model


def linearised(model: Any) -> Any:
    """Give a model that was made here the identity for its MLPs' activation."""
    for block in model.blocks:
        block.mlp.act_fn = nn.Identity()
    return model


def _made(**config: Any) -> Any:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = HookedTransformer(HookedTransformerConfig(**config), move_to_device=False)
    return model.eval()
