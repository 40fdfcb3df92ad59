"""Small random dictionaries of every kind for the small models of `shapes.py`."""

from __future__ import annotations

import math
from typing import Any

import torch

from sae_circuits.graph import Architecture
from sae_circuits.models.dictionaries import Dictionary, Site
from sae_circuits.models.dictionaries.gates import AbsoluteTopK, Gated, Threshold, TopK, relu
from sae_circuits.models.dictionaries.scalings import layer_norm

N_FEATURES = 7


def dictionary(
    model: Any,
    reads: str,
    layer: int,
    *,
    writes: str | None = None,
    gate: str = "relu",
    skip: bool = False,
    scaled: bool = False,
    n: int = N_FEATURES,
    seed: int = 0,
) -> Dictionary:
    """A random dictionary whose every parameter matters, about half of its features active.

    Args:
        reads: a kind of site; `writes` another one, for a transcoder.
        gate: "relu", "topk", "abstopk", "threshold" or "gated".
    """
    arch = Architecture.of(model)
    generator = torch.Generator().manual_seed(seed + 31 * layer)
    dtype = next(model.parameters()).dtype

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    where, out = Site(reads, layer), Site(writes or reads, layer)
    d_in, d_out = where.width(arch), out.width(arch)
    gates = {
        "relu": relu,
        "topk": TopK(3),
        "abstopk": AbsoluteTopK(3),
        "threshold": Threshold(0.3 * draw(n).abs()),
        "gated": Gated(0.3 * draw(n), 0.2 * draw(n), 0.3 * draw(n)),
    }
    return Dictionary(
        name=f"{reads}.{layer}",
        reads=where,
        writes=(out,),
        W_enc=draw(d_in, n) / math.sqrt(d_in),
        b_enc=0.3 * draw(n),
        decoders=(draw(n, d_out) / math.sqrt(n),),
        b_dec=0.3 * draw(d_out),
        gate=gates[gate],
        b_in=None if writes else 0.2 * draw(d_in),
        scaling=layer_norm if scaled else None,
        W_skip=draw(d_in, d_out) / d_in if skip else None,
    )
