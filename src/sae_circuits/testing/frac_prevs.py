"""`frac_prevs`, compiled by hand: the fraction of the tokens so far that are x.

    is_x   = tokens == x                                        an MLP
    output = aggregate(select(indices, indices, <=), is_x)      a head that attends to all alike

Reference: Lindner et al. 2023, arXiv 2301.05062.
"""

from __future__ import annotations

import torch

from sae_circuits.models.small import zero_model
from sae_circuits.tasks import Task
from sae_circuits.testing.by_hand import (
    Stream,
    embed,
    eye,
    fill_with_junk,
    one_hot,
    set_head,
    set_mlp,
)
from sae_circuits.testing.ground_truth import GroundTruth

OTHER, X, N_TOKENS, N_CTX = 0, 1, 6, 10
EDGES = ("input->m0", "m0->a1.h0<v>", "a1.h0->logits")


@torch.no_grad()
def frac_prevs(*, eps: float = 0.0, n: int = 16, seed: int = 0) -> GroundTruth:
    """The logit of x is the fraction of the tokens so far that are x; all other logits are 0.

    Args:
        eps: how strongly all other heads and MLPs write to the output.
        n: examples.
        seed: of the other parts' weights and of the task.
    """
    stream = Stream.of(token=N_TOKENS, position=N_CTX, is_x=1, output=1, junk=8)
    model = zero_model(
        "frac_prevs", n_layers=2, n_heads=3, d_model=stream.d_model, d_head=6, d_mlp=12,
        d_vocab=N_TOKENS, n_ctx=N_CTX,
    )  # fmt: skip
    embed(model, stream)
    fill_with_junk(model, stream, eps=eps, seed=seed)
    model.unembed.W_U[stream["output"], X] = 1
    set_mlp(
        model,
        "m0",
        reads=((stream["token"], 1.5 * one_hot(X, N_TOKENS)),),
        threshold=0.5,
        writes=(stream["is_x"], eye(1)),
    )
    set_head(model, "a1.h0", v=(stream["is_x"], eye(1)), o=(stream["output"], eye(1)))
    return GroundTruth.of("frac_prevs", model, _task(n, seed), EDGES)


def _task(n: int, seed: int) -> Task:
    """Prompts of mixed lengths, 70% of whose tokens are x; corrupt, 20%."""
    generator = torch.Generator().manual_seed(seed)

    def draw(share: float) -> torch.Tensor:
        is_x = torch.rand(n, N_CTX, generator=generator) < share
        others = torch.randint(X + 1, N_TOKENS, (n, N_CTX), generator=generator)
        return torch.where(is_x, X, others)

    lengths = torch.randint(N_CTX // 2, N_CTX + 1, (n, 1), generator=generator)
    return Task.from_tokens(
        draw(0.7),
        draw(0.2),
        answer=torch.full((n,), X),
        wrong=torch.full((n,), OTHER),
        mask=torch.arange(N_CTX) < lengths,
        name="frac_prevs",
    )
