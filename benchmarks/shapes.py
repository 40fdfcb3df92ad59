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


def random_task(model: Any, batch: int, pos: int, seed: int = 0) -> sc.Task:
    """Random clean and corrupt prompts with random answers."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupt = torch.randint(model.cfg.d_vocab, (2, batch, pos), generator=generator)
    answer = torch.randint(model.cfg.d_vocab, (batch,), generator=generator)
    return sc.Task.from_tokens(
        clean, corrupt, answer=answer, wrong=(answer + 1) % model.cfg.d_vocab, name="random"
    )
