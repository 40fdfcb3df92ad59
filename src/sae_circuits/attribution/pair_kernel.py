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
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from sae_circuits.attribution.sparse import Active, ActivePlaced

ENTRIES = {"cpu": 2 << 20, "other": 1 << 25}  # products in a list; about 40 bytes each
CHUNK_BYTES = {"cpu": 8 << 20, "other": 256 << 20}  # of directions gathered at a time
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


Sums = tuple[Int64[Tensor, "edge"], Int64[Tensor, "edge"], Float[Tensor, "edge"]]


def score_pairs(src: Source, dest: Destination) -> Iterator[Sums]:
    """Score the edges between two dictionaries' features, a block of destinations at a time.

    Yields:
        The sources' and the destinations' indices in the graph, by destination and then by
        source; and the scores, summed over tokens in float64.
    """
    for first, stop in _blocks(src, dest.active):
        part = dest.active.between(first, stop)
        features, local = part.features.long().unique(return_inverse=True)
        part = Active(part.counts, local.int(), part.values)
        V = dest.placed.W_read_of(features).to(part.values.dtype).contiguous()
        keys, products = _products(src, part, V, dest.normed)
        keys, sums = sum_equal(keys, products)
        n = len(src.placed.chosen)
        yield src.start + keys % n, dest.start + features[keys // n], sums


def _blocks(src: Source, to: Active) -> Iterator[tuple[int, int]]:
    """Runs of destinations whose products fit one list; a single one that does not is a run."""
    if not len(to.features):
        return
    each = torch.bincount(to.features, weights=src.active.counts[to.token].double())
    budget = ENTRIES.get(each.device.type, ENTRIES["other"])
    widest = (2**31 - 1) // len(src.placed.chosen)  # what an int32 numbers
    ends, first = each.cumsum(0).tolist(), 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        most = torch.searchsorted(each.cumsum(0), before + budget, right=True)
        stop = min(max(int(most), first + 1), first + widest)
        if ends[min(stop, len(ends)) - 1] > before:
            yield first, stop
        first = stop


def _products(
    src: Source,
    to: Active,
    V: Float[Tensor, "some d_model"],
    normed: Float[Tensor, "token point d_model"],
) -> tuple[Int32[Tensor, "entry"], Float[Tensor, "entry"]]:
    """All `a_u[t] (W_u . g_v[t])`, each with its edge: v times the number of sources, plus u."""
    W, n_src = src.placed.W_dec, len(src.placed.chosen)
    size = int((src.active.counts * to.counts).sum())
    keys = torch.empty(size, dtype=torch.int32, device=V.device)
    products, done = V.new_empty(size), 0
    for tokens in _chunks(src.active.counts, to.counts, V.shape[1] * V.itemsize):
        u, a, is_u = src.active.rows(tokens)
        v, b, is_v = to.rows(tokens)
        g = _rows(V, v) * b[..., :1]
        if normed.shape[1]:
            g.baddbmm_(b[..., 1:], normed[tokens], alpha=-1)
        product = torch.bmm(_rows(W, u).to(V.dtype), g.mT).mul_(a)
        key = u.int()[:, :, None] + (v.int() * n_src)[:, None, :]
        inside = is_u[:, :, None] & is_v[:, None, :]
        found = product[inside]
        some = slice(done, done + len(found))
        products[some], keys[some] = found, key[inside]
        done += len(found)
    return keys, products


def _rows(W: Float[Tensor, "row d_model"], at: Int64[Tensor, "some width"]) -> Tensor:
    return W.index_select(0, at.flatten()).unflatten(0, at.shape)


def _chunks(
    n_src: Int64[Tensor, "token"], n_dest: Int64[Tensor, "token"], row: int
) -> Iterator[Int64[Tensor, "some"]]:
    """Tokens with both ends active, few enough at a time, and with similar numbers of them."""
    width = (n_src + n_dest).where((n_src > 0) & (n_dest > 0), 0)
    order = width.argsort(descending=True, stable=True)[: int((width > 0).sum())]
    budget = CHUNK_BYTES.get(width.device.type, CHUNK_BYTES["other"])
    widths, first = width[order].tolist(), 0
    while first < len(widths):
        stop = first + max(1, budget // (row * widths[first]))
        yield order[first:stop]
        first = stop


def sum_equal(
    keys: Int32[Tensor, "entry"], values: Float[Tensor, "entry"]
) -> tuple[Int64[Tensor, "edge"], Float[Tensor, "edge"]]:
    """The different keys, ascending, and the sums of their values, in float64.

    Args:
        keys: none below 0.
    """
    keys, values = _sorted(keys, values)
    is_first = torch.ones(len(keys), dtype=torch.bool, device=keys.device)
    torch.ne(keys[1:], keys[:-1], out=is_first[1:])
    edge = is_first.cumsum(0).sub_(1)
    different = keys[is_first].long()
    sums = torch.zeros(len(different), dtype=torch.float64, device=keys.device)
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
