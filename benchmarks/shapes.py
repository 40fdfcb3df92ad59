"""Models of a known shape with random weights, and random prompts for them."""

from __future__ import annotations

import warnings
from typing import Any

import torch

import sae_circuits as sc

GPT2_SMALL = {"n_layers": 12, "d_model": 768, "n_heads": 12, "d_head": 64, "d_vocab": 50257}


def gpt2_shaped(*, device: str = "cpu", seed: int = 0, **sizes: int) -> Any:
    """A `HookedTransformer` of GPT-2 small's shape, or of other sizes, with random weights."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    sizes = {**GPT2_SMALL, **sizes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = HookedTransformer(
            HookedTransformerConfig(
                **sizes,
                d_mlp=4 * sizes["d_model"],
                n_ctx=1024,
                act_fn="gelu_new",
                normalization_type="LN",
                seed=seed,
                device=device,
            )
        )
    return model.eval().requires_grad_(False)


LLAMA_8B = {
    "n_layers": 32, "d_model": 4096, "n_heads": 32, "n_key_value_heads": 8, "d_head": 128,
    "d_mlp": 14336, "d_vocab": 128256,
}  # fmt: skip
GATED = {
    "act_fn": "silu", "gated_mlp": True, "normalization_type": "RMS", "final_rms": True,
    "positional_embedding_type": "rotary", "dtype": torch.bfloat16,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "GPT-2 small": GPT2_SMALL,
    "GPT-2 medium": {**GPT2_SMALL, "n_layers": 24, "d_model": 1024, "n_heads": 16},
    "GPT-2 XL": {**GPT2_SMALL, "n_layers": 48, "d_model": 1600, "n_heads": 25},
    "Llama 8B": {**LLAMA_8B, **GATED, "rotary_dim": 128},
    "tiny": {"n_layers": 2, "d_model": 64, "n_heads": 4, "d_head": 16, "d_vocab": 500},
    "tiny Llama": {
        **{"n_layers": 2, "d_model": 64, "n_heads": 4, "n_key_value_heads": 2, "d_head": 16},
        **{"d_mlp": 128, "d_vocab": 500, "rotary_dim": 16, **GATED},
    },
}
"""Names of shapes, and what their configurations hold."""


def shaped(name: str, device: str = "cpu", seed: int = 0) -> Any:
    """A `HookedTransformer` of a named shape, made where it shall be, as fast as that fills it."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    sizes = {"act_fn": "gelu_new", "normalization_type": "LN", **SHAPES[name]}
    sizes.setdefault("d_mlp", 4 * sizes["d_model"])
    with warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore")
        model = HookedTransformer(
            HookedTransformerConfig(**sizes, n_ctx=1024, init_weights=False, device=device),
            move_to_device=False,
        )
    generator = torch.Generator(device).manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.shape[-1] > 1:  # norms and biases are as they are made
            width = SHAPES[name]["d_model"]
            parameter.data.normal_(std=width**-0.5, generator=generator)
    return model.eval().requires_grad_(False)


def random_task(model: Any, batch: int, pos: int, seed: int = 0) -> sc.Task:
    """Random clean and corrupt prompts with random answers."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupt = torch.randint(model.cfg.d_vocab, (2, batch, pos), generator=generator)
    answer = torch.randint(model.cfg.d_vocab, (batch,), generator=generator)
    return sc.Task.from_tokens(
        clean, corrupt, answer=answer, wrong=(answer + 1) % model.cfg.d_vocab, name="random"
    )
