"""Gradients of readers that see the stream through a component: vector-Jacobian products.

A feature of what heads or an MLP write may read the stream through them, and so may one whose
dictionary normalises its input. With c_f(x) its coefficient when it reads the stream x, and r(x)
what the error node then writes (see `Placed`), both as a circuit's run computes them,

    g_f = (dc_f/dx)^T (g_out . W_dec[f])        at the tokens where f is active
    g_error = (dr/dx)^T g_out

which is what autograd gives for the sum of all `c_f b_f`, each f with its own copy of x. Where each
token is read by itself, only the copies of tokens at which a feature is active are made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.attribution.features import Ends
from sae_circuits.attribution.gradients import Point
from sae_circuits.attribution.products import sparse_if_sparse, wide_by_wide
from sae_circuits.cache.expand import expand_writes
from sae_circuits.graph import Block
from sae_circuits.models.dictionaries.placed import Placed

ROW_BYTES = 64 << 20  # of gradients of features, and of copies of the stream, at a time


def add_vjps(total: Float[Tensor, "src dest"], ends: Ends) -> None:
    """Add the scores of all edges to readers that see the stream through a component."""
    with ends.adapter.frozen():
        for dest, block in ends.graph.dest_starts.values():
            if ends.through(block):
                first, stop = ends.graph.sees(block.depth)
                for which, g in _gradients(ends, block):
                    total[first:stop, which.to(total.device) + dest] = _scores(ends, g, first, stop)


def _gradients(
    ends: Ends, block: Block
) -> Iterator[tuple[Int64[Tensor, "dest"], Float[Tensor, "dest token d_model"]]]:
    """The gradients of some readers of a block at a time; of those where there are any."""
    name = f"{block.site}{block.layer}"
    placed, points, dtype = ends.saes[name], ends.gradients.points[name], ends.gradients.dtype
    which = torch.arange(len(block), device=ends.tokens.device)
    if block.kind == "feature":
        which = which[torch.stack([p.gate.flatten(0, 1).any(0) for p in points]).any(0)]
    size = max(1, min(ROW_BYTES, ends.space) // (points[0].stream.numel() * dtype.itemsize))
    for some in which.split(size):
        with torch.enable_grad():
            g = sum(_rows(placed, point, block, some).to(dtype) for point in points)
        assert isinstance(g, Tensor)
        yield some, g.flatten(1, 2)[:, ends.tokens]


def _rows(
    placed: Placed, point: Point, block: Block, which: Int64[Tensor, "dest"]
) -> Float[Tensor, "dest batch pos d_model"]:
    """Those at one point."""
    if block.kind != "feature":
        x = point.stream.detach().requires_grad_()
        error = block.kind == "error"
        out = placed.rest(x, point.call) if error else placed.skip(placed.read(x, point.call))
        return _slope(out, point.g_out, x)[None]
    b = point.gate[..., which] * (point.g_out @ placed.W_dec[which].to(point.g_out.dtype).T)
    f, t = b.flatten(0, 1).T.nonzero(as_tuple=True)
    weights = b.flatten(0, 1)[t, f]
    if placed.part == "a":
        return _through_heads(placed, point, which, f, t, weights)
    tokens = point.stream.flatten(0, 1)
    x = tokens[t][None].requires_grad_()
    c = _coefficients(placed, which[f], placed.read(x)[0])
    g = tokens.new_zeros(len(which), *tokens.shape)
    g[f, t] = _slope(c, weights, x)[0]
    return g.unflatten(1, point.stream.shape[:2])


def _through_heads(
    placed: Placed,
    point: Point,
    which: Int64[Tensor, "dest"],
    f: Int64[Tensor, "active"],
    t: Int64[Tensor, "active"],
    weights: Float[Tensor, "active"],
) -> Float[Tensor, "dest batch pos d_model"]:
    """Those of features of heads, active where `f` says which and `t` at which token.

    Queries, keys and values are copied, not the stream, so that projections are made once, and back
    in one product: g = J_norm^T sum_port dq_port W_port^T (see `norms.py`).
    """
    adapter, layer, n = placed.adapter, placed.layer, len(which)
    read, leaves = adapter.read(layer, point.stream), list[Tensor]()
    for port in "qkv":
        W, bias = adapter.W_in(layer, port), adapter.b_in(layer, port)
        q = torch.einsum("bpd,hdk->bphk", read, W)
        q = q if bias is None else q + bias
        leaves.append(q.detach().repeat(n, 1, 1, 1).requires_grad_())
    z = adapter.attend(layer, point.call, *leaves).unflatten(0, (n, -1)).flatten(1, 2)
    own = placed.of_heads(z[f, t][None])[0].to(placed.W_enc.dtype)
    c = _coefficients(placed, which[f], own)
    found = torch.autograd.grad((c * weights.to(c.dtype)).sum(), leaves)
    into = sum(
        torch.einsum("rphk,hdk->rpd", dq, adapter.W_in(layer, port))
        for port, dq in zip("qkv", found, strict=True)
    )
    assert isinstance(into, Tensor)
    norm, into = adapter.attn_norm(layer), into.unflatten(0, (n, -1))
    return into if norm is None else norm.pull_back(into, point.stream)


def _coefficients(
    placed: Placed, which: Int64[Tensor, "some"], read: Float[Tensor, "some *token d_in"]
) -> Float[Tensor, "*token some"]:
    """Of features that are active, each from what its own encoder gets."""
    pre, factor = placed.pre_each(which, read), placed.factor_each(read)
    return pre if factor is None else pre * factor


def _slope(out: Tensor, weights: Tensor, x: Tensor) -> Tensor:
    """The gradient of `sum(out * weights)` in x."""
    return torch.autograd.grad((out * weights.to(out.dtype)).sum(), x)[0]


def _scores(
    ends: Ends, g: Float[Tensor, "dest token d_model"], first: int, stop: int
) -> Float[Tensor, "src dest"]:
    """`change . gradient` of the writers between two ids and of some readers."""
    found = []
    for start, block in ends.graph.src_starts.values():
        if not first <= start < stop:
            continue
        if block.is_narrow:
            placed = ends.saes[f"{block.site}{block.layer}"]
            W = placed.W_dec.to(g.dtype)
            a = sparse_if_sparse(ends.scalars(ends.change[f"{placed.name}.f"]).T)
            found.append(torch.stack([torch.linalg.vecdot(a @ g_v, W) for g_v in g], 1).double())
        else:
            found.append(_from_vectors(ends, block, g))
    return torch.cat(found)


def _from_vectors(
    ends: Ends, block: Block, g: Float[Tensor, "dest token d_model"]
) -> Float[Tensor, "src dest"]:
    score = g.new_zeros(len(block), len(g), dtype=torch.float64)
    size = max(1, min(ROW_BYTES, ends.space) // (len(block) * g.shape[2] * g.element_size()))
    for tokens, g_some in zip(ends.tokens.split(size), g.split(size, 1), strict=True):
        d = g.new_empty(len(block), *g_some.shape[1:])
        expand_writes(ends.adapter, (block,), ends.saes, ends.change, tokens, d)
        score += wide_by_wide(d, g_some)
    return score
