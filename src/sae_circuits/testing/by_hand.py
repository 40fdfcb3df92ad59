"""Weights set by hand: named subspaces of the stream, and heads and MLPs that use them.

Hidden units are switched on at a third or at two thirds of the way from what switches them off:
where no midpoint rule has a point, so that no score hangs on the slope of relu at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.graph import parse_node

# A subspace, and what is made of it or added to it. An underscore: no two need be alike in a call.
Reading = tuple[slice, Float[Tensor, "_width _d_head"]]
Writing = tuple[slice, Float[Tensor, "_d_head _width"]]


@dataclass(frozen=True)
class Stream:
    """A residual stream that is split into named subspaces, one after the other.

    >>> stream = Stream.of(token=5, position=8)
    >>> stream["position"], stream.d_model
    (slice(5, 13, None), 13)
    """

    subspaces: Mapping[str, slice]
    d_model: int

    @classmethod
    def of(cls, **widths: int) -> Stream:
        """Subspaces of the given widths."""
        ends = list(accumulate(widths.values(), initial=0))
        return cls(dict(zip(widths, (slice(*ab) for ab in pairwise(ends)), strict=True)), ends[-1])

    def __getitem__(self, name: str) -> slice:
        return self.subspaces[name]


def eye(n: int) -> Float[Tensor, "n n"]:
    """The identity, in float64."""
    return torch.eye(n, dtype=torch.float64)


def one_hot(i: int, n: int) -> Float[Tensor, "n 1"]:
    """A column with a 1 at row i, in float64."""
    return eye(n)[:, i : i + 1]


@torch.no_grad()
def embed(model: Any, stream: Stream) -> None:
    """Write each token into "token" and each position into "position", one-hot."""
    model.embed.W_E[:, stream["token"]] = eye(model.cfg.d_vocab)
    model.pos_embed.W_pos[:, stream["position"]] = eye(model.cfg.n_ctx)


@torch.no_grad()
def set_head(
    model: Any,
    name: str,
    *,
    v: Reading,
    o: Writing,
    q: Reading | None = None,
    k: Reading | None = None,
) -> None:
    """Set what a head reads and writes, and all else of it to 0.

    Without q and k, it attends to all places alike.
    """
    node = parse_node(name)
    attn, head = model.blocks[node.layer].attn, node.index
    for weight, reading in ((attn.W_Q, q), (attn.W_K, k), (attn.W_V, v)):
        weight[head] = 0
        if reading is not None:
            where, matrix = reading
            weight[head, where, : matrix.shape[1]] = matrix
    where, matrix = o
    attn.W_O[head] = 0
    attn.W_O[head, : len(matrix), where] = matrix


@torch.no_grad()
def set_mlp(
    model: Any,
    name: str,
    *,
    reads: tuple[Reading, ...],
    threshold: float,
    writes: Writing,
    constant: float = 0.0,
) -> None:
    """Set an MLP to `relu(x W_in - threshold) W_out + constant`, and all else of it to 0."""
    mlp = model.blocks[parse_node(name).layer].mlp
    for weight in (mlp.W_in, mlp.b_in, mlp.W_out, mlp.b_out):
        weight.zero_()
    for where, matrix in reads:
        mlp.W_in[where, : matrix.shape[1]] = matrix
    where, matrix = writes
    mlp.b_in[: len(matrix)] = -threshold
    mlp.W_out[: len(matrix), where] = matrix
    mlp.b_out[where] = constant


@torch.no_grad()
def fill_with_junk(model: Any, stream: Stream, *, eps: float, seed: int) -> None:
    """Let all heads and MLPs read everything, write to "junk", and eps times it to "output".

    Weights are normal, of variance 1 / fan-in.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(weight: Tensor, fan_in: int) -> Tensor:
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        return drawn / math.sqrt(fan_in)

    cfg = model.cfg
    write = torch.zeros(cfg.d_model, dtype=torch.float64)
    write[stream["junk"]], write[stream["output"]] = 1.0, eps
    for block in model.blocks:
        for weight in (block.attn.W_Q, block.attn.W_K, block.attn.W_V):
            weight.copy_(draw(weight, cfg.d_model))
        block.attn.W_O.copy_(draw(block.attn.W_O, cfg.d_head) * write)
        block.mlp.W_in.copy_(draw(block.mlp.W_in, cfg.d_model))
        block.mlp.W_out.copy_(draw(block.mlp.W_out, cfg.d_mlp) * write)
