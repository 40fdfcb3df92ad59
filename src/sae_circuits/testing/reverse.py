"""`reverse`, compiled by hand: after a separator, the sequence before it comes backwards.

    at     = aggregate(select(tokens, SEP, ==), indices)        a head finds the separator
    mirror = 2 at - 1 - indices                                 an MLP computes the place to read
    output = aggregate(select(indices, mirror, ==), tokens)     a head reads it

as Tracr would, but for the separator, which a causal model needs (its sequence may be of any
length). Reference: Lindner et al. 2023, arXiv 2301.05062; Weiss et al. 2021, arXiv 2106.06981.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

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

SEP, N_TOKENS, N_CTX = 0, 8, 10
# Where the separator may be and which place may be read there, so that there is a place to mirror.
PAIRS = [(at, i) for at in range(1, N_CTX) for i in range(at, min(2 * at, N_CTX))]

EDGES = ("input->a0.h0<k>", "a0.h0->m0", "m0->a1.h0<q>", "input->a1.h0<v>", "a1.h0->logits")


@torch.no_grad()
def reverse(
    *, sharpness: float = 20.0, eps: float = 0.0, n: int = 16, seed: int = 0
) -> GroundTruth:
    """Sequences, a separator, and as much of the reversal as there is; the answer comes next.

    Args:
        sharpness: the attention scores of what is selected; of all else they are 0.
        eps: how strongly all other heads and MLPs write to the output.
        n: examples.
        seed: of the other parts' weights and of the task.
    """
    stream = Stream.of(
        token=N_TOKENS, position=N_CTX, at=N_CTX, mirror=N_CTX, output=N_TOKENS, junk=8
    )
    model = zero_model(
        "reverse", n_layers=2, n_heads=3, d_model=stream.d_model, d_head=N_CTX,
        d_mlp=len(PAIRS), d_vocab=N_TOKENS, n_ctx=N_CTX,
    )  # fmt: skip
    embed(model, stream)
    fill_with_junk(model, stream, eps=eps, seed=seed)
    model.unembed.W_U[stream["output"]] = eye(N_TOKENS)

    set_head(
        model,
        "a0.h0",
        q=(stream["position"], sharpness * torch.ones(N_CTX, 1, dtype=torch.float64)),
        k=(stream["token"], one_hot(SEP, N_TOKENS)),
        v=(stream["position"], eye(N_CTX)),
        o=(stream["at"], eye(N_CTX)),
    )
    from_at, from_index, to_mirror = _lookup()
    set_mlp(  # a hidden unit for each pair is on where both of its inputs are
        model,
        "m0",
        reads=((stream["at"], 1.5 * from_at), (stream["position"], 1.5 * from_index)),
        threshold=2,
        writes=(stream["mirror"], to_mirror),
    )
    set_head(
        model,
        "a1.h0",
        q=(stream["mirror"], sharpness * eye(N_CTX)),
        k=(stream["position"], eye(N_CTX)),
        v=(stream["token"], eye(N_TOKENS)),
        o=(stream["output"], eye(N_TOKENS)),
    )
    return GroundTruth.of("reverse", model, _task(n, seed), EDGES)


def _lookup() -> tuple[
    Float[Tensor, "position pair"], Float[Tensor, "position pair"], Float[Tensor, "pair position"]
]:
    """For each pair of places: the separator's, the reader's, and the one to read."""
    at, index = torch.tensor(PAIRS).T
    one_hots = eye(N_CTX)
    return one_hots[at].T, one_hots[index].T, one_hots[2 * at - 1 - index]


def _prompt(tokens: Int64[Tensor, "size"], length: int) -> Int64[Tensor, "length"]:
    """A sequence, the separator, and the reversal as far as it fits."""
    return torch.cat([tokens, torch.tensor([SEP]), tokens.flip(0)])[:length]


def _task(n: int, seed: int) -> Task:
    """Prompts of mixed lengths; corrupt, another sequence of another length with another answer."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *size: int) -> Tensor:
        return torch.randint(low, high, size, generator=generator)

    clean, corrupt = torch.full((2, n, N_CTX), SEP)
    mask = torch.zeros(n, N_CTX, dtype=torch.bool)
    answers = torch.zeros(2, n, dtype=torch.int64)
    for i in range(n):
        last = int(draw(4, N_CTX))  # the place that is read: 2 at - 1 - last has to be one
        places = torch.arange(last // 2 + 1, last + 1)
        places = places[torch.randperm(len(places), generator=generator)[:2]].tolist()
        mask[i, : last + 1] = True
        while answers[0, i] == answers[1, i]:
            for row, prompts, at in zip(answers, (clean, corrupt), places, strict=True):
                tokens = draw(1, N_TOKENS, at)
                prompts[i, : last + 1] = _prompt(tokens, last + 1)
                row[i] = tokens[2 * at - 1 - last]
    return Task.from_tokens(
        clean, corrupt, answer=answers[0], wrong=answers[1], mask=mask, name="reverse"
    )
