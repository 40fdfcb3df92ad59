"""How a model reads its final stream: the norm, the unembedding, and a cap, if it has one.

    logits = cap tanh((norm(r) W_U + b_U) / cap)

in float32 at least, and of the vocabulary some tokens at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import NumericalError
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.norms import Norm
from sae_circuits.precision import wide_dtype

TOKENS = 8192  # of the vocabulary, at a time
ROWS = 512  # of the stream, at a time


@dataclass(frozen=True, eq=False)
class Final:
    """The end of a model, from its final stream on.

    Args:
        norm: None where the stream is read as it is.
        W_U: the unembedding, in the model's own dtype.
        bias: of the logits.
        dtype: in which all is computed.
        cap: of the logits; None for none.
    """

    norm: Norm | None
    W_U: Float[Tensor, "d_model vocab"]
    bias: Float[Tensor, "vocab"] | None
    dtype: torch.dtype
    cap: float | None = None

    @classmethod
    def of(cls, adapter: Adapter, *others: torch.dtype) -> Final:
        """That of a model.

        Args:
            others: dtypes of what is computed with it.

        Raises:
            NumericalError: weights that are not finite, by name.
        """
        model = adapter.model
        dtype = wide_dtype(adapter.dtype, *others)
        norm, W_U = adapter.final_norm, adapter.W_U
        b_U = getattr(model.unembed, "b_U", None)
        own = {"W_U": W_U, "b_U": b_U}
        if norm is not None:
            own |= {"the gain of the final norm": norm.weight, "its bias": norm.bias}
            gain, shift = (None if x is None else x.to(dtype) for x in (norm.weight, norm.bias))
            norm = replace(norm, weight=gain, bias=shift)
        for name, x in own.items():
            parts = [] if x is None else x.split(TOKENS, dim=-1)
            if not all(bool(part.sum(dtype=dtype).isfinite()) for part in parts):
                raise NumericalError(
                    f"{name} of {adapter.architecture.model!r} holds NaN or infinity: check the "
                    "model's weights"
                )
        cap = getattr(model.cfg, "output_logits_soft_cap", None)
        bias = None if b_U is None else adapter.here(b_U.detach()).to(dtype)
        return cls(norm, W_U, bias, dtype, cap if cap and cap > 0 else None)

    @property
    def n_tokens(self) -> int:
        """How many token ids there are."""
        return self.W_U.shape[1]

    @cached_property
    def mean(self) -> Float[Tensor, "d_model"]:
        """Of the unembedding over the vocabulary, in float64."""
        parts = [W.sum(1, dtype=torch.float64) for W in self.W_U.split(TOKENS, dim=1)]
        return torch.stack(parts).sum(0) / self.n_tokens

    def gained(self, x: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        """Times the norm's gain, if it has one."""
        return x.to(self.dtype) if self.norm is None else self.norm.gain(x.to(self.dtype))

    def read(self, r: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """The final stream as the unembedding sees it."""
        return r.to(self.dtype) if self.norm is None else self.norm(r.to(self.dtype))

    @cached_property
    def _opaque(self) -> Tensor | None:
        """The unembedding in oneDNN's layout, where that can work on it."""
        W = self.W_U
        fits = W.device.type == "cpu" and W.dtype == self.dtype == torch.float32
        return W.T.to_mkldnn() if fits and torch.backends.mkldnn.is_available() else None

    def product(self, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """x W_U, of many rows; by oneDNN, which on some processors takes half of torch's time."""
        if self._opaque is None:
            return x @ self.W_U.to(x.dtype)
        return torch.nn.functional.linear(x.to_mkldnn(), self._opaque).to_dense()

    def products(self, x: Float[Tensor, "row d_model"]) -> Iterator[Float[Tensor, "row some"]]:
        """x W_U, some tokens of the vocabulary at a time."""
        for W in self.W_U.split(TOKENS, dim=1):
            yield x @ W.to(x.dtype)

    def log_prob(
        self, read: Float[Tensor, "row d_model"], token: Int64[Tensor, "row"]
    ) -> Float[Tensor, "row"]:
        """The log probability of one token for each row, in nats.

        Args:
            read: what the unembedding sees, see `read`.
        """
        pairs = zip(read.split(ROWS), token.split(ROWS), strict=True)
        found = [self._log_prob(some, own) for some, own in pairs]
        return torch.cat(found) if found else read.new_zeros(0)

    def _log_prob(
        self, read: Float[Tensor, "row d_model"], token: Int64[Tensor, "row"]
    ) -> Float[Tensor, "row"]:
        own, sums = read.new_zeros(len(read)), []
        for i, product in enumerate(self.products(read.to(self.dtype))):
            start = i * TOKENS
            logits = self._capped(product, slice(start, start + product.shape[1]))
            here = token - start
            inside = (here >= 0) & (here < logits.shape[1])
            picked = logits.gather(1, here.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
            own = torch.where(inside, picked, own)
            sums.append(logits.logsumexp(1))
        return own - torch.stack(sums).logsumexp(0)

    def _capped(self, product: Float[Tensor, "row some"], which: slice) -> Tensor:
        logits = product if self.bias is None else product + self.bias[which]
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)
