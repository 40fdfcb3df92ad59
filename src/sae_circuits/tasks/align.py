"""Prompts of several lengths as one tensor, real tokens first.

A causal model's real tokens never see what comes after them. So with all padding on the right no
attention mask is needed, and padding cannot change a score.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from sae_circuits.errors import AlignmentError, TaskError

FILLER = 0  # stands where no token is: any id that every model has
NO_ANSWER = -1  # fills the rows of unequal answer sets


def left_align(
    tokens: Int64[Tensor, "n pos"], mask: Shaped[Tensor, "..."] | None
) -> tuple[Int64[Tensor, "n longest"], Int64[Tensor, " n"]]:
    """Move the real tokens of every row to its front.

    Args:
        tokens: token ids, padded on either side.
        mask: true at real tokens; None if all are.

    Returns:
        The rows with their padding behind and set to one value, as wide as the longest needs, and
        their lengths.

    Raises:
        TaskError: the mask has another shape; a row has no real token, or padding between real
            ones.
    """
    mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
    if mask.shape != tokens.shape:
        raise TaskError(
            f"the mask's shape {tuple(mask.shape)} is not that of the tokens {tuple(tokens.shape)}"
        )
    lengths = mask.sum(-1)
    _check_rows(mask, lengths)
    width = int(lengths.max())
    steps = torch.arange(width, device=tokens.device)
    first = mask.to(torch.int64).argmax(-1)
    index = (first[:, None] + steps).clamp(max=tokens.shape[1] - 1)
    aligned = tokens.gather(1, index).masked_fill(steps >= lengths[:, None], FILLER)
    return aligned, lengths


def _check_rows(mask: Bool[Tensor, "n pos"], lengths: Int64[Tensor, " n"]) -> None:
    if (empty := (lengths == 0).nonzero()).numel():
        raise TaskError(f"prompt {int(empty[0])} has no token: its mask is false everywhere")
    starts = mask.to(torch.int8).diff(dim=1, prepend=mask.new_zeros(len(mask), 1)) == 1
    if (holes := (starts.sum(-1) > 1).nonzero()).numel():
        row = int(holes[0])
        raise TaskError(
            f"the mask of prompt {row} has a hole: {mask[row].int().tolist()}; "
            "padding may stand before and after a prompt's tokens, not among them"
        )


def pack(rows: Sequence[Sequence[int]], filler: int) -> Int64[Tensor, "n longest"]:
    """Make one tensor of rows of unequal length.

    >>> pack([[5, 6], [7]], filler=-1).tolist()
    [[5, 6], [7, -1]]
    """
    width = max(map(len, rows))
    filled = [[*row, *[filler] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.int64).reshape(len(rows), width)


def check_pairs(
    lengths: Int64[Tensor, " n"],
    corrupt_lengths: Int64[Tensor, " n"],
    clean: Sequence[str] | Int64[Tensor, "n pos"],
    corrupt: Sequence[str] | Int64[Tensor, "n pos_corrupt"],
) -> None:
    """Refuse pairs whose two prompts differ in length.

    Args:
        lengths, corrupt_lengths: in tokens.
        clean, corrupt: the prompts, as text or as ids.

    Raises:
        AlignmentError: shows the first such pair, and says how many there are.
    """
    differing = (lengths != corrupt_lengths).nonzero().flatten().tolist()
    if not differing:
        return
    i = differing[0]
    size, other = int(lengths[i]), int(corrupt_lengths[i])
    more = f" ({len(differing)} of {len(lengths)} pairs differ)" if len(differing) > 1 else ""
    raise AlignmentError(
        f"pair {i} does not align: its clean prompt has {size} tokens and its corrupt prompt "
        f"{other}{more}\n  clean:   {_shown(clean[i], size)}\n"
        f"  corrupt: {_shown(corrupt[i], other)}\n"
        "Every word that is replaced must be replaced by as many tokens."
    )


def _shown(prompt: object, size: int) -> str:
    return str(prompt[:size].tolist()) if isinstance(prompt, Tensor) else repr(prompt)
