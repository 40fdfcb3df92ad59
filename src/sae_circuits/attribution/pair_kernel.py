"""The kernel of pairs: scores of all edges between features that are active together.

With a_u[t] the change of a source's activation, b_v[t] the gradient at a destination's
pre-activation, W_u and V_v their directions, and t over tokens,

    score(u, v) = sum_t a_u[t] (W_u . g_v[t]),    g_v[t] = b_v[t] V_v - sum_p c_pv[t] x_p[t]

where the last term, through a norm's scale, is as in `gradients.py`. A token adds to the edges
between what is active there, so it takes one product of the directions of its sources, [n_u,
d_model], with those of its destinations, [d_model, n_v]. All products stand in one list, with the
edge of each; the list is sorted by edge, and the products of equal edges are summed.

Per token this takes 2 n_u n_v d_model operations and reads (n_u + n_v) d_model numbers; sorting
costs as much again. Nothing is as large as the graph.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from sae_circuits.attribution.sparse import Active, ActivePlaced

ENTRIES = {"cpu": 1 << 20, "other": 1 << 25}  # products in a list; about 40 bytes each
_HIGH = int(sys.byteorder == "little")  # which half of an int64 decides its order


@dataclass(frozen=True, eq=False)
class Source:
    """Features that write.

    Args:
        start: the index of the first among the graph's writers.
        active: a_u, in one column.
    """

    start: int
    placed: ActivePlaced
    active: Active


@dataclass(frozen=True, eq=False)
class Destination:
    """Features that read the stream.

    Args:
        start: the index of the first among the graph's readers.
        active: b_v, and c_pv for each point where a norm stands before them.
        normed: x_p of each token and point.
    """

    start: int
    placed: ActivePlaced
    active: Active
    normed: Float[Tensor, "token point d_model"]


Sums = tuple[Int32[Tensor, "edge"], Int32[Tensor, "edge"], Float[Tensor, "edge"]]


def score_pairs(src: Source, dest: Destination) -> Iterator[Sums]:
    """Score the edges between two dictionaries' features, a block of destinations at a time.

    Yields:
        The sources' and the destinations' indices in the graph, by destination and then by
        source; and the scores, summed over tokens in float64.
    """
    bits = (len(src.placed.chosen) - 1).bit_length()  # of a key, which say the source
    for first, stop in _blocks(src.active, dest.active, 1 << (31 - bits)):
        part = dest.active.between(first, stop)
        features, local = part.features.unique(return_inverse=True)
        part = Active(part.counts, local.int(), part.values)
        V = dest.placed.W_read_of(features).to(part.values.dtype).contiguous()
        keys, sums = sum_equal(*_products(src, part, V, dest.normed, bits))
        yield src.start + (keys & (1 << bits) - 1), dest.start + features[keys >> bits], sums


def _blocks(src: Active, to: Active, widest: int) -> Iterator[tuple[int, int]]:
    """Runs of destinations whose products fit one list; a single one that does not is a run.

    Args:
        widest: how many destinations a run may have.
    """
    if not len(to.features):
        return
    each = torch.bincount(to.features, weights=src.counts[to.token].double())
    ends, budget = each.cumsum(0), ENTRIES.get(each.device.type, ENTRIES["other"])
    first, before = 0, 0.0
    while first < len(ends):
        fits = int(torch.searchsorted(ends, before + budget, right=True))
        stop = min(max(fits, first + 1), first + widest, len(ends))
        after = float(ends[stop - 1])
        if after > before:
            yield first, stop
        first, before = stop, after


def _products(
    src: Source,
    to: Active,
    V: Float[Tensor, "some d_model"],
    normed: Float[Tensor, "token point d_model"],
    bits: int,
) -> tuple[Int32[Tensor, "entry"], Float[Tensor, "entry"]]:
    """The key of its edge, v and then u, and `a_u[t] (W_u . g_v[t])`, for all that meet."""
    W, size = src.placed.W_dec, int((src.active.counts * to.counts).sum())
    keys = torch.empty(size, dtype=torch.int32, device=V.device)
    products, start = V.new_empty(size), 0
    each = zip(src.active.by_token(), to.by_token(), normed, strict=True)
    for (u, a), (v, b), x in each:
        shape = len(u), len(v)
        here = slice(start, start := start + len(u) * len(v))
        if here.start == start:
            continue
        g = V.index_select(0, v).mul_(b[:, :1]).addmm_(b[:, 1:], x, alpha=-1)
        product = products[here].view(shape)
        torch.mm(W.index_select(0, u).to(V.dtype), g.T, out=product).mul_(a)
        torch.bitwise_or(v << bits, u[:, None], out=keys[here].view(shape))
    return keys, products


def sum_equal(
    keys: Int32[Tensor, "entry"], values: Float[Tensor, "entry"]
) -> tuple[Int32[Tensor, "edge"], Float[Tensor, "edge"]]:
    """The different keys, ascending, and the sums of their values, in float64.

    Args:
        keys: none below 0.
    """
    keys, values = _sorted(keys, values)
    is_first = torch.ones(len(keys), dtype=torch.bool, device=keys.device)
    torch.ne(keys[1:], keys[:-1], out=is_first[1:])
    edge = is_first.cumsum(0).sub_(1)
    n = int(is_first.sum())
    different = keys.new_empty(n).scatter_(0, edge, keys)
    sums = torch.zeros(n, dtype=torch.float64, device=keys.device)
    return different, sums.scatter_add_(0, edge, values.double())


def _sorted(
    keys: Int32[Tensor, "entry"], values: Float[Tensor, "entry"]
) -> tuple[Int32[Tensor, "entry"], Float[Tensor, "entry"]]:
    """Keys in order with their values; those of equal keys in an order that only they decide.

    A key and a float32 are one int64 together, so that one sort moves both.
    """
    if values.dtype != torch.float32:
        values, order = values.sort()
        keys, again = keys[order].sort(stable=True)
        return keys, values[again]
    halves = torch.empty(len(keys), 2, dtype=torch.int32, device=keys.device)
    halves[:, _HIGH], halves[:, 1 - _HIGH] = keys, values.view(torch.int32)
    both = halves.view(torch.int64)[:, 0]
    if both.device.type == "cpu":
        both.numpy().sort()  # with vector instructions, five times as fast as torch's
    else:
        both = both.sort().values
    halves = both.view(torch.int32).unflatten(0, (-1, 2))
    return halves[:, _HIGH].contiguous(), halves[:, 1 - _HIGH].contiguous().view(torch.float32)
