"""Products of ends of edges, summed over tokens.

An end is a vector a token (an MLP, an error node), or scalars a token times directions: one for a
feature, d_head of them for a head. With d and g of the first kind, a and b the scalars, W the
directions:

                     vector destination                   scalar destination
    vector source    sum_t d_u[t] . g_v[t]                sum_t (d_u[t] . W_v) b_v[t]
    scalar source    sum_t a_u[t] (W_u . g_v[t])          (sum_t a_u[t] b_v[t]) (W_u . W_v)

The second and the third are one function, since both sum scalars times vectors over tokens before
a direction is applied. In the last, what depends on tokens and what does not come apart: it costs
`n_u n_v (tokens + d_model)`, where vectors would cost `n_u n_v tokens d_model`.
"""

from __future__ import annotations

import warnings
from functools import cache
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor

SPARSE = 0.1  # below this share of non-zeros a sparse product is the faster one


def wide_by_wide(
    d: Float[Tensor, "src token d_model"], g: Float[Tensor, "dest token d_model"]
) -> Float[Tensor, "src dest"]:
    """`sum_t d_u[t] . g_v[t]`; g comes first, since products with d innermost run faster."""
    return (g.flatten(1) @ d.flatten(1).T).T


def narrow_by_wide(
    a: Float[Tensor, "token feature"],
    W: Float[Tensor, "feature d_model"],
    g: Float[Tensor, "token d_model"],
) -> Float[Tensor, "feature"]:
    """`sum_t a_f[t] (W_f . g[t])`: first the sum over tokens, then the direction."""
    return torch.linalg.vecdot(sparse_if_sparse(a.T) @ g, W)


def narrow_by_narrow(
    a: Float[Tensor, "token src"],
    W: Float[Tensor, "src d_model"],
    b: Float[Tensor, "token dest"],
    V: Float[Tensor, "dest d_model"],
) -> Float[Tensor, "src dest"]:
    """`(sum_t a_u[t] b_v[t]) (W_u . V_v)`."""
    return (sparse_if_sparse(a.T) @ b) * (W @ V.T)


def along_scale(
    a: Float[Tensor, "token src"],
    W: Float[Tensor, "src d_model"],
    x: Float[Tensor, "token d_model"],
    c: Float[Tensor, "token dest"],
) -> Float[Tensor, "src dest"]:
    """`sum_t a_u[t] (W_u . x[t]) c_v[t]`: what goes through a norm's scale (see `gradients.py`)."""
    return (a * (x @ W.T)).T @ c


def sparse_if_sparse(a: Float[Tensor, "row column"]) -> Tensor:
    """The same matrix by its non-zeros where these are few."""
    if a.numel() and a.count_nonzero() < SPARSE * a.numel():
        _make_one()
        return a.to_sparse_csr()
    return a


_ONE_AT_A_TIME = (
    Lock()
)  # the filters of warnings are the process's, and threads may work side by side


@cache
def _make_one() -> None:
    """Let torch warn of sparse matrices, of a product in wide use, where nobody hears it.

    It does so once in a process.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR")
        torch.zeros(1, 1).to_sparse_csr()
