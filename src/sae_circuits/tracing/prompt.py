"""The prompt as token ids, and its tokens as strings."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_circuits.errors import ContextError, TaskError
from sae_circuits.graph import Architecture
from sae_circuits.tasks.vocabulary import Vocabulary


def read_prompt(
    model: Any, arch: Architecture, prompt: str | Tensor, *, prepend_bos: bool
) -> Int64[Tensor, "pos"]:
    """The token ids of a prompt.

    Raises:
        TaskError: no token, a word that the tokenizer does not know, ids that are not whole
            numbers in one row, or that the model does not have.
        ContextError: more tokens than the model reads.
    """
    tokens = prompt
    if isinstance(prompt, str):
        tokens = torch.tensor(Vocabulary.of(model).prompt(prompt, prepend_bos=prepend_bos))
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.ndim != 1:
        got = type(tokens).__name__
        if isinstance(tokens, Tensor):
            got = f"{tokens.dtype} of shape {tuple(tokens.shape)}"
        raise TaskError(f"the prompt is {got}: give a string, or torch.int64 ids of shape (pos,)")
    if not len(tokens):
        raise TaskError("the prompt has no token")
    if len(tokens) > arch.n_ctx:
        raise ContextError(
            f"the prompt has {len(tokens)} tokens, and the model reads at most {arch.n_ctx}: "
            "shorten it"
        )
    if bool((wrong := (tokens < 0) | (tokens >= arch.d_vocab)).any()):
        pos = int(wrong.nonzero()[0])
        raise TaskError(
            f"the prompt has the token id {int(tokens[pos])} at position {pos}, and the model's "
            f"{arch.d_vocab} ids are 0 to {arch.d_vocab - 1}"
        )
    return tokens


def strings(model: Any, tokens: Int64[Tensor, "pos"]) -> tuple[str, ...]:
    """Each token as the tokenizer writes it; its id where the model has no tokenizer."""
    decode = getattr(getattr(model, "tokenizer", None), "decode", None)
    return tuple(str(i) if decode is None else decode([i]) for i in tokens.tolist())
