"""Induction: `... A B ... A` is followed by B.

One head copies the token before into each place. In the next layer, another looks for the place
whose token before is the current one, and copies the token that stands there to the output.
"""

from __future__ import annotations

import torch

from sae_circuits.errors import OptionError
from sae_circuits.models.small import zero_model
from sae_circuits.tasks import Task
from sae_circuits.testing.by_hand import Stream, embed, eye, fill_with_junk, set_head, set_mlp
from sae_circuits.testing.ground_truth import GroundTruth

N_TOKENS, N_CTX = 14, 10


@torch.no_grad()
def induction(
    *,
    sharpness: float = 4.0,
    eps: float = 0.0,
    mlp: bool = False,
    n_layers: int = 2,
    n: int = 8,
    seed: int = 0,
) -> GroundTruth:
    """Induction by two heads, in two neighbouring layers in the middle of the model.

    Args:
        sharpness: the attention score of a match; of all else it is 0. At 30 the softmax is so
            saturated that its gradient at the clean run is nothing beside a leak of 0.05.
        eps: how strongly all other heads and MLPs write to the output.
        mlp: whether the second head copies what an MLP looked up, by relu(1.5 x - 0.5).
        n_layers: at least 2.
        n: examples.
        seed: of the other parts' weights and of the task.

    Raises:
        OptionError: fewer than two layers.
    """
    if n_layers < 2:
        raise OptionError(f"n_layers={n_layers}: induction takes two layers, one for each head")
    stream = Stream.of(
        token=N_TOKENS, position=N_CTX, previous=N_TOKENS, output=N_TOKENS, junk=8,
        **({"looked_up": N_TOKENS} if mlp else {}),
    )  # fmt: skip
    model = zero_model(
        "induction", n_layers=n_layers, n_heads=4, d_model=stream.d_model, d_head=N_TOKENS,
        d_mlp=16, d_vocab=N_TOKENS, n_ctx=N_CTX,
    )  # fmt: skip
    embed(model, stream)
    fill_with_junk(model, stream, eps=eps, seed=seed)
    model.unembed.W_U[stream["output"]] = eye(N_TOKENS)

    first = n_layers // 2 - 1
    copy, match, lookup = f"a{first}.h1", f"a{first + 1}.h2", f"m{first}"
    set_head(
        model,
        copy,
        q=(stream["position"], 30 * eye(N_CTX)),
        k=(stream["position"], eye(N_CTX).roll(1, 1).triu()),  # the place after it asks for it
        v=(stream["token"], eye(N_TOKENS)),
        o=(stream["previous"], eye(N_TOKENS)),
    )
    set_head(
        model,
        match,
        q=(stream["token"], sharpness * eye(N_TOKENS)),
        k=(stream["previous"], eye(N_TOKENS)),
        v=(stream["looked_up" if mlp else "token"], eye(N_TOKENS)),
        o=(stream["output"], eye(N_TOKENS)),
    )
    edges = [f"input->{copy}<v>", f"{copy}->{match}<k>", f"input->{match}<q>", f"{match}->logits"]
    if mlp:
        set_mlp(
            model,
            lookup,
            reads=((stream["token"], 1.5 * eye(N_TOKENS)),),
            threshold=0.5,
            writes=(stream["looked_up"], eye(N_TOKENS)),
        )
        edges += [f"input->{lookup}", f"{lookup}->{match}<v>"]
    else:
        edges += [f"input->{match}<v>"]
    return GroundTruth.of("induction", model, _task(n, seed), edges)


def _task(n: int, seed: int) -> Task:
    """`0 ... A B ... A` with the answer B; corrupt, other tokens everywhere and no repeat.

    Token 0 stands first and nowhere else; all tokens of a prompt are distinct but for A.
    """
    generator = torch.Generator().manual_seed(seed)
    clean, corrupt = torch.zeros(2, n, N_CTX, dtype=torch.int64)
    for i in range(n):
        clean[i, 1:] = 1 + torch.randperm(N_TOKENS - 1, generator=generator)[: N_CTX - 1]
        corrupt[i, 1:] = clean[i, 1:].roll(3)
        at = int(torch.randint(1, N_CTX - 3, (), generator=generator))
        clean[i, -1] = clean[i, at]
    answer = torch.stack([row[int((row[:-1] == row[-1]).nonzero()[0]) + 1] for row in clean])
    wrong = 1 + (answer + 3) % (N_TOKENS - 1)
    return Task.from_tokens(clean, corrupt, answer=answer, wrong=wrong, name="induction")
