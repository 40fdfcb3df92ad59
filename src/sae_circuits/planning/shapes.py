"""Shapes of models by name, as their configurations and papers give them.

GPT-2: Radford et al. 2019, and the `config.json` of openai-community's models. Llama 2: arXiv
2307.09288; Llama 3: arXiv 2407.21783; Gemma 2: arXiv 2408.00118, and their configurations.
"""

from __future__ import annotations

from typing import Any

from sae_circuits.ablation.batches import shape_of
from sae_circuits.costs.shape import Shape
from sae_circuits.errors import unknown
from sae_circuits.graph import Architecture
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.load import load_model, names

# layers, heads, key/value heads, d_model, d_head, vocabulary, context, d_mlp; gated
SHAPES: dict[str, tuple[int, int, int, int, int, int, int, int, bool]] = {
    "gpt2": (12, 12, 12, 768, 64, 50257, 1024, 3072, False),
    "gpt2-medium": (24, 16, 16, 1024, 64, 50257, 1024, 4096, False),
    "gpt2-large": (36, 20, 20, 1280, 64, 50257, 1024, 5120, False),
    "gpt2-xl": (48, 25, 25, 1600, 64, 50257, 1024, 6400, False),
    "gemma-2-2b": (26, 8, 4, 2304, 256, 256000, 8192, 9216, True),
    "llama-2-7b": (32, 32, 32, 4096, 128, 32000, 4096, 11008, True),
    "llama-3-8b": (32, 32, 8, 4096, 128, 128256, 8192, 14336, True),
}


def shape_named(model: Any, itemsize: int) -> Shape:
    """The shape of a model: by name, as an `Architecture` or a `Shape`, or of one at hand.

    Args:
        itemsize: bytes of a weight, where the model is not at hand.

    Raises:
        UnknownName: no such shape.
        UnsupportedModel: what is no model.
    """
    if isinstance(model, Shape):
        return model
    if isinstance(model, Architecture):
        return Shape(model, itemsize)
    if isinstance(model, str) and model not in names():
        if model not in SHAPES:
            raise unknown("shape", model, [*names(), *SHAPES])
        layers, heads, kv, d_model, d_head, vocab, context, d_mlp, gated = SHAPES[model]
        sizes = layers, heads, kv, d_model, d_head, vocab, context
        return Shape(Architecture(model, *sizes, d_mlp=d_mlp), itemsize, gated)
    return shape_of(Adapter.of(load_model(model)))
