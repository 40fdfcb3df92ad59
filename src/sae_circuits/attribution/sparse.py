"""Features by their non-zeros: of tens of thousands, a few dozen are active on a token.

A run keeps a dictionary's coefficients as one dense tensor [batch, pos, feature]. Here they are
sparse from where they are computed on, a few tokens at a time, so that memory grows with what is
active and not with the dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int32, Int64
from torch import Tensor

from sae_circuits.models.dictionaries.placed import Placed

ENCODED_BYTES = 16 << 20  # of pre-activations at a time
GATHERED_BYTES = 16 << 20  # of directions at a time, one for each active feature of a token


@dataclass(frozen=True, eq=False)
class ActivePlaced(Placed):
    """A dictionary in its place, whose coefficients are sparse tensors."""

    def coefficients(
        self, x: Float[Tensor, "batch pos d_in"]
    ) -> Float[Tensor, "batch pos feature"]:
        """As those of `Placed`, in torch's sparse COO layout, coalesced."""
        row = self.dictionary.n_features * self.dictionary.W_enc.itemsize
        step, read = max(1, ENCODED_BYTES // row), x.flatten(0, 1)
        where, values = [], []
        for start in range(0, len(read), step):
            found = Placed.coefficients(self, read[start : start + step]).to_sparse()
            token, feature = found.indices()
            token = token + start
            where.append(torch.stack([token // x.shape[1], token % x.shape[1], feature]))
            values.append(found.values())
        shape = (*x.shape[:2], len(self.chosen))
        return torch.sparse_coo_tensor(
            torch.cat(where, 1), torch.cat(values), shape, is_coalesced=True, check_invariants=False
        )

    def W_read_of(self, features: Int[Tensor, "some"]) -> Float[Tensor, "some d_model"]:
        """Rows of `W_read`, without the whole of it."""
        W = self.W_enc.index_select(1, features).T
        return W if self.norm is None else self.norm.centre(self.norm.gain(W))


def with_values(at: Tensor, values: Float[Tensor, "pair"]) -> Tensor:
    """A sparse tensor with other values at the places of a coalesced one."""
    return torch.sparse_coo_tensor(
        at.indices(), values, at.shape, is_coalesced=True, check_invariants=False
    )


def dot_rows(
    x: Float[Tensor, "batch pos d_model"],
    at: Float[Tensor, "batch pos feature"],
    placed: ActivePlaced,
    *,
    read: bool,
) -> Float[Tensor, "pair"]:
    """`x[t] . W[f]` for the tokens and features of a sparse tensor.

    Args:
        read: W are the directions along which features read, and not those that they write.
    """
    batch, pos, feature = at.indices()
    step = max(1, GATHERED_BYTES // (2 * x.shape[-1] * x.itemsize))
    dots = []
    for b, p, f in zip(batch.split(step), pos.split(step), feature.split(step), strict=True):
        W = placed.W_read_of(f) if read else placed.W_dec.index_select(0, f)
        dots.append(torch.linalg.vecdot(x[b, p], W.to(x.dtype)))
    return torch.cat(dots)


@dataclass(frozen=True, eq=False)
class Active:
    """Numbers of features at tokens, but for zeros: token by token, ascending within a token.

    Args:
        counts: of each token, how many features have numbers.
        features: which ones, by their index among the graph's.
        values: their numbers: one, or several in columns.
    """

    counts: Int64[Tensor, "token"]
    features: Int32[Tensor, "pair"]
    values: Float[Tensor, "pair number"]

    @classmethod
    def of(
        cls, x: Sequence[Float[Tensor, "batch pos feature"]], real: Bool[Tensor, "batch pos"]
    ) -> Active:
        """From sparse tensors, the places of the first holding those of all others.

        Args:
            real: which tokens are no padding; the others are left out.
        """
        first, *others = (tensor.coalesce() for tensor in x)
        places = with_values(first, torch.zeros_like(first.values()))
        columns = [first, *((other + places).coalesce() for other in others)]
        values = torch.stack([column.values() for column in columns], 1)
        batch, pos, feature = first.indices()
        kept = real[batch, pos] & (values != 0).any(1)
        token = real.flatten().cumsum(0)[batch * real.shape[1] + pos] - 1
        counts = torch.bincount(token[kept], minlength=int(real.sum()))
        return cls(counts, feature[kept].int(), values[kept])

    @classmethod
    def cat(cls, parts: Sequence[Active]) -> Active:
        """Those of more tokens."""
        return cls(
            torch.cat([part.counts for part in parts]),
            torch.cat([part.features for part in parts]),
            torch.cat([part.values for part in parts]),
        )

    @property
    def token(self) -> Int64[Tensor, "pair"]:
        """The token of each pair."""
        return torch.arange(len(self.counts), device=self.counts.device).repeat_interleave(
            self.counts
        )

    def between(self, first: int, stop: int) -> Active:
        """Those of the features from one index up to another."""
        kept = (self.features >= first) & (self.features < stop)
        counts = torch.bincount(self.token[kept], minlength=len(self.counts))
        return Active(counts, self.features[kept], self.values[kept])

    def by_token(self) -> Iterator[tuple[Int32[Tensor, "some"], Float[Tensor, "some number"]]]:
        """The features and the numbers of each token."""
        counts = self.counts.tolist()
        return zip(self.features.split(counts), self.values.split(counts), strict=True)
