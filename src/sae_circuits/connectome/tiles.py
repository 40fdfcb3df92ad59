"""The entries of a product of two matrices that are largest by size, in each row and each column.

The product is made a tile at a time. Of a tile, those entries alone are sorted that can be among
the k largest of their row or column: larger than the k-th of what is kept so far, and not below
the k-th of the largest entries of the tile's own runs of `RUN`, of which there are k at least.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import NumericalError
from sae_circuits.progress import track

RUN = 32  # neighbouring entries of which the largest is found first
WIDEST = 2048  # a tile's side: larger ones leave the processor's own memory
Left = Callable[[slice], Float[Tensor, "some width"]]


@dataclass(frozen=True, eq=False)
class Listed:
    """For each row, or each column, its largest entries by size, the largest first.

    Args:
        ids: -1 where fewer than k entries are not 0; of equal ones the lower comes first.
        values: with their signs; 0 where the id is -1.
    """

    ids: Int64[Tensor, "line k"]
    values: Float[Tensor, "line k"]

    @classmethod
    def empty(cls, n: int, k: int, like: Tensor) -> Listed:
        """Nothing listed for n lines."""
        ids = torch.full((n, k), -1, dtype=torch.int64, device=like.device)
        return cls(ids, like.new_zeros(n, k))

    def __getitem__(self, lines: slice) -> Listed:
        return Listed(self.ids[lines], self.values[lines])

    def largest(self, k: int) -> Listed:
        """The k largest of each line; of equal ones those that are listed first."""
        order = self.values.abs().sort(dim=1, descending=True, stable=True).indices[:, :k]
        return Listed(self.ids.gather(1, order), self.values.gather(1, order))

    def put(self, lines: slice, new: Listed) -> None:
        """Write what is listed for some lines."""
        self.ids[lines], self.values[lines] = new.ids, new.values


def side_within(memory: int, width: int, itemsize: int) -> int:
    """The side of a tile whose work takes about so many bytes.

    That is the tile with its signs and without, a third of it for what is sorted, and what is
    multiplied, `width` numbers for each row and column.
    """
    numbers, a = memory / itemsize, 2 * width
    side = int(((a * a + 4 * 2.5 * numbers) ** 0.5 - a) / (2 * 2.5))
    return min(WIDEST, max(RUN, side // RUN * RUN))


def largest_of_both(
    left: Left, n: int, right: Float[Tensor, "width column"], k: int, side: int
) -> tuple[Listed, Listed]:
    """For each row and for each column of `left right`, the k entries that are largest by size.

    Args:
        left: gives some rows of the first factor.
        n: how many rows it has.
        side: of a tile.

    Returns:
        The columns listed for each row, and the rows listed for each column.

    Raises:
        NumericalError: an entry that is not finite.
    """
    m, first = right.shape[1], left(slice(0, 1))
    rows = Listed.empty(n, min(k, m), first)
    columns = Listed.empty(m, min(k, n), first)
    held = [first.new_empty(_up(min(side, n)) * _up(min(side, m))) for _ in range(2)]
    for here in track(_pieces(n, side), description="virtual weights"):
        own = left(here)
        for there in _pieces(m, side):
            other = right[:, there].to(own.device, own.dtype)
            entries, sizes = _tile(own, other, *held)
            along = sizes.unflatten(1, (-1, RUN)).amax(2)
            down = sizes.unflatten(0, (-1, RUN)).amax(1)
            _require_finite(down)
            rows.put(here, _merged(rows[here], entries, sizes, along, there.start))
            columns.put(there, _merged(columns[there], entries.T, sizes.T, down.T, here.start))
    return rows, columns


def _up(n: int) -> int:
    """The next multiple of a run."""
    return -(-n // RUN) * RUN


def _pieces(n: int, side: int) -> list[slice]:
    """Slices of nearly equal length, none above the side."""
    step = _up(-(-n // max(1, -(-n // side))))
    return [slice(i, min(i + step, n)) for i in range(0, n, max(step, 1))]


def _tile(
    own: Float[Tensor, "row width"],
    other: Float[Tensor, "width column"],
    signed: Float[Tensor, "_"],
    unsigned: Float[Tensor, "_"],
) -> tuple[Float[Tensor, "row column"], Float[Tensor, "rows_up columns_up"]]:
    """A tile, and its entries' sizes with zeros up to whole runs, in memory that is held."""
    n, m = len(own), other.shape[1]
    entries = torch.mm(own, other, out=signed[: n * m].view(n, m))
    sizes = unsigned[: _up(n) * _up(m)].view(_up(n), _up(m))
    if sizes.shape != entries.shape:
        sizes.zero_()
    torch.abs(entries, out=sizes[:n, :m])
    return entries, sizes


def _merged(
    kept: Listed,
    entries: Float[Tensor, "line other"],
    sizes: Float[Tensor, "lines_up others_up"],
    peaks: Float[Tensor, "lines_up run"],
    start: int,
) -> Listed:
    """What is listed for a tile's lines once the largest of the tile are among it.

    Args:
        peaks: the largest of each line's runs.
        start: the id of the tile's first entry of a line.
    """
    n, k = kept.ids.shape
    least = _least(kept.values.abs()[:, -1], sizes[:n], peaks[:n], k)
    line, run = (peaks[:n] > least[:, None]).nonzero(as_tuple=True)
    places = run[:, None] * RUN + torch.arange(RUN, device=run.device)
    among = _entries(sizes, line.repeat_interleave(RUN), places.flatten()).view(-1, RUN)
    which, at = (among > least[line, None]).nonzero(as_tuple=True)
    if not len(which):
        return kept
    line, place = line[which], places[which, at]
    counts = torch.bincount(line, minlength=n)
    rank = torch.arange(len(line), device=line.device) - (counts.cumsum(0) - counts)[line]
    new = Listed.empty(n, int(counts.max()), entries)
    new.ids[line, rank], new.values[line, rank] = place + start, _entries(entries, line, place)
    ids, values = torch.cat([kept.ids, new.ids], 1), torch.cat([kept.values, new.values], 1)
    return Listed(ids, values).largest(k)


def _least(
    kept: Float[Tensor, "line"],
    sizes: Float[Tensor, "line others_up"],
    peaks: Float[Tensor, "line run"],
    k: int,
) -> Float[Tensor, "line"]:
    """For each line a number that what can be listed is larger than.

    Args:
        kept: the least that is listed so far; 0 where the list is not full.
    """
    among = peaks if peaks.shape[1] >= k else sizes
    bare = ((kept == 0) & (peaks.amax(1) > 0)).nonzero()[:, 0]
    if among.shape[1] < k or not len(bare):
        return kept
    kth = among[bare].topk(k, dim=1).values[:, -1]
    return kept.index_copy(0, bare, kth.nextafter(torch.zeros_like(kth)))


def _entries(
    x: Float[Tensor, "line other"], line: Int64[Tensor, "some"], place: Int64[Tensor, "some"]
) -> Float[Tensor, "some"]:
    """Some entries, of a tile or of its transpose: as one list, it is read several times faster."""
    if x.stride(1) > 1:
        x, line, place = x.T, place, line
    return x.reshape(-1).index_select(0, line * x.shape[1] + place)


def _require_finite(peaks: Tensor) -> None:
    if not bool(peaks.isfinite().all()):
        raise NumericalError(
            "virtual weights are not finite: check the model's and the dictionaries' weights, and "
            "their dtype"
        )
