"""Rows of the matrix of direct effects: cotangents carried down the layers, with no autograd.

A destination's pre-activation is a cotangent g of the stream at its position. Going down a layer,
with the local replacement model's weights and patterns,

    A[t, s] = a_s (W_dec[s] . g_t[pos_s])              at the MLP's output
    g_t    += W_skip g_t                               where there is a skip term
    u_h     = W_write[h] g_t,  w_h = pattern_h^T u_h,  g_t += sum_h W_V[h]^T w_h

Rows enter where their destination reads. A destination reads one position, and so do its cotangents
until an attention has spread them to earlier ones; no later position is ever reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.tracing.local import Layer, Local
from sae_circuits.tracing.nodes import FEATURE, LOGIT, Nodes
from sae_circuits.tracing.sources import Sources


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of the matrix, those that read deepest first.

    Args:
        dest: the rows' destinations.
        src: the columns' sources, as nodes.
        runs: rows that read at one depth, and so have no effect on each other.
        weight: the direct effects.
    """

    dest: Int64[Tensor, "row"]
    src: Int64[Tensor, "source"]
    runs: tuple[slice, ...]
    weight: Float[Tensor, "source row"]

    @classmethod
    def of(
        cls,
        local: Local,
        nodes: Nodes,
        src: Int64[Tensor, "source"],
        dest: Int64[Tensor, "row"],
        weight: Float[Tensor, "source row"],
    ) -> Block:
        """The rows that `direct_effects` gave."""
        return cls(dest, src, _runs(entry_depth(local, nodes)[dest].tolist()), weight)


def entry_depth(local: Local, nodes: Nodes) -> Int64[Tensor, "node"]:
    """Where destinations read: 2l is the stream before layer l, 2l + 1 the one in its middle."""
    parallel = local.adapter.architecture.parallel
    return 2 * nodes.layer + ((nodes.kind == FEATURE) & (not parallel))


def direct_effects(
    local: Local, nodes: Nodes, sources: Sources, dest: Int64[Tensor, "row"]
) -> Float[Tensor, "source row"]:
    """The direct effects of some sources on some destinations, which stand deepest first."""
    depth = entry_depth(local, nodes)[dest].tolist()
    pos = nodes.pos[dest]
    g = local.input.new_zeros(len(dest), int(pos.max()) + 1, local.input.shape[1])
    for run in _runs(depth):
        g[torch.arange(run.start, run.stop, device=g.device), pos[run]] = _start(
            local, nodes, dest[run]
        )
    out = g.new_zeros(len(sources), len(dest))
    parallel = local.adapter.architecture.parallel
    spread = 0  # rows that an attention has spread to earlier positions
    for number, layer in reversed([*enumerate(local.layers)]):
        entered = sum(d >= 2 * number + 2 for d in depth)
        if entered:
            for group in sources.mlp[number]:
                group.add_to(out[:, :entered], g[:entered])
        skip = _skip(layer, g[:entered])
        if skip is not None and not parallel:
            g[:entered] += skip
        at_attention = sum(d >= 2 * number + 1 for d in depth)
        if at_attention:
            _attend(layer, g[:at_attention], pos[:at_attention], spread)
        if skip is not None and parallel:
            g[:entered] += skip
        spread = at_attention
    for group in sources.input:
        group.add_to(out, g)
    return out.mul_(sources.activation[:, None])


def _start(local: Local, nodes: Nodes, dest: Int64[Tensor, "row"]) -> Float[Tensor, "row d_model"]:
    """The cotangents of destinations of one layer."""
    first = int(dest[0])
    if int(nodes.kind[first]) == LOGIT:
        return local.start(nodes.index[dest])
    return local.active[int(nodes.layer[first])].start(nodes.member[dest], local.dtype)


def _runs(depth: list[int]) -> tuple[slice, ...]:
    """Slices of equal depth."""
    cuts = [i for i in range(1, len(depth)) if depth[i] != depth[i - 1]]
    return tuple(map(slice, [0, *cuts], [*cuts, len(depth)]))


def _skip(layer: Layer, g: Float[Tensor, "row pos d_model"]) -> Tensor | None:
    """What a skip term carries from the MLP's output to the stream that it reads."""
    if layer.W_skip is None or layer.skip_scale is None or not len(g):
        return None
    return (g @ layer.W_skip) / layer.skip_scale[: g.shape[1]]


def _attend(
    layer: Layer, g: Float[Tensor, "row pos d_model"], pos: Int64[Tensor, "row"], spread: int
) -> None:
    """Add to cotangents what attention with fixed patterns carries to earlier positions.

    All products work on [weight, (row pos)], so that none of them needs a transposed copy.

    Args:
        pos: the only position of each row that is not among the first `spread`.
    """
    n_rows, n_pos, _ = g.shape
    n_heads = len(layer.pattern)
    u = g.new_empty(len(layer.W_write), n_rows, n_pos)
    if spread:
        torch.mm(layer.W_write, g[:spread].flatten(0, 1).T, out=u[:, :spread].view(len(u), -1))
    if spread < n_rows:
        new = torch.arange(spread, n_rows, device=g.device)
        u[:, spread:] = 0
        u[:, new, pos[spread:]] = layer.W_write @ g[new, pos[spread:]].T
    pattern = layer.pattern[:, :n_pos, :n_pos]
    w = torch.bmm(u.view(n_heads, -1, n_pos), pattern).view(-1, n_rows * n_pos)
    del u
    if len(w) > len(layer.W_V):  # query heads that share a value
        d_head = len(layer.W_write) // n_heads
        w = w.view(-1, len(layer.W_write) // len(layer.W_V), d_head, w.shape[1]).sum(1)
        w = w.flatten(0, 1)
    g.view(n_rows * n_pos, -1).addmm_(w.T, layer.W_V)
