"""Products of ends of edges, summed over tokens.

An end is a vector a token (a head, an MLP, an error node), or a scalar a token times a direction (a
feature). With d and g of the first kind, a and b the scalars, W the directions:

                     vector destination                   feature destination
    vector source    sum_t d_u[t] . g_v[t]                sum_t (d_u[t] . W_v) b_v[t]
    feature source   sum_t a_u[t] (W_u . g_v[t])          (sum_t a_u[t] b_v[t]) (W_u . W_v)

The second and the third are one function, since both sum scalars times vectors over tokens before
a direction is applied.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

SPARSE = 0.1  # below this share of non-zeros a sparse product is the faster one
SPACE_BYTES = 64 << 20  # of the sums of vectors over tokens held at a time


def wide_by_wide(
    d: Float[Tensor, "src token d_model"], g: Float[Tensor, "dest token d_model"]
) -> Float[Tensor, "src dest"]:
    """`sum_t d_u[t] . g_v[t]`; g comes first, since products with d innermost run faster."""
    return (g.flatten(1) @ d.flatten(1).T).T


def narrow_by_wide(
    a: Float[Tensor, "token feature"],
    W: Float[Tensor, "feature d_model"],
    wide: Float[Tensor, "end token d_model"],
) -> Float[Tensor, "feature end"]:
    """`sum_t a_f[t] (W_f . wide_v[t])`: first the sum over tokens, then the direction."""
    ends, n_tokens, width = wide.shape
    rows = wide.transpose(0, 1).reshape(n_tokens, ends * width)
    scalars = sparse_if_sparse(a.T)
    out = W.new_empty(len(W), ends)
    size = max(1, SPACE_BYTES // (len(W) * width * W.element_size()))
    for start in range(0, ends, size):
        some = slice(start * width, (start + size) * width)
        summed = (scalars @ rows[:, some]).unflatten(1, (-1, width))
        out[:, start : start + size] = torch.einsum("fed,fd->fe", summed, W)
    return out


def narrow_by_narrow(
    a: Float[Tensor, "token src"], b: Float[Tensor, "token dest"]
) -> Float[Tensor, "src dest"]:
    """`sum_t a_u[t] b_v[t]`, to be multiplied by `W_u . W_v`."""
    return sparse_if_sparse(a.T) @ b


def sparse_if_sparse(a: Float[Tensor, "row column"]) -> Tensor:
    """The same matrix by its non-zeros where these are few."""
    if a.numel() and a.count_nonzero() < SPARSE * a.numel():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR")  # said once, of a product in wide use
            return a.to_sparse_csr()
    return a
