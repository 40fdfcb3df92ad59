"""AND and OR of two bits, which two heads bring to an MLP.

Both bits are true in the clean prompts and false in the corrupt ones. So of an AND each input alone
breaks the output; of an OR neither does, since the other one suffices: edges that are patched one
at a time show nothing of it.
"""

from __future__ import annotations

import torch

from sae_circuits.errors import unknown
from sae_circuits.models.small import zero_model
from sae_circuits.tasks import Task
from sae_circuits.testing.by_hand import Stream, embed, eye, fill_with_junk, set_head, set_mlp
from sae_circuits.testing.ground_truth import GroundTruth

FALSE, TRUE, N_TOKENS, N_CTX = 0, 1, 8, 6
PLACES = {"x": 1, "y": 2}  # where the bits stand; all other places hold tokens from 2 on


@torch.no_grad()
def gate(
    kind: str, *, apart: bool = False, eps: float = 0.0, n: int = 8, seed: int = 0
) -> GroundTruth:
    """A gate: the logit of "true" is 1 or 0, that of "false" always 1/2.

        and = relu(1.5 (x + y) - 2)        or = 1 - relu(1 - 1.5 (x + y))

    Args:
        kind: "and" or "or".
        apart: bring the bits in two layers rather than in one.
        eps: how strongly all other heads and MLPs write to the output.
        n: examples.
        seed: of the other parts' weights and of the other tokens.

    Raises:
        UnknownName: another kind of gate.
    """
    if kind not in ("and", "or"):
        raise unknown("gate", kind, ("and", "or"))
    stream = Stream.of(token=N_TOKENS, position=N_CTX, x=1, y=1, output=1, junk=8)
    model = zero_model(
        kind, n_layers=2, n_heads=3, d_model=stream.d_model, d_head=6, d_mlp=12,
        d_vocab=N_TOKENS, n_ctx=N_CTX,
    )  # fmt: skip
    embed(model, stream)
    fill_with_junk(model, stream, eps=eps, seed=seed)
    model.unembed.W_U[stream["output"], TRUE] = 1
    model.unembed.b_U[FALSE] = 0.5

    heads = {"x": "a0.h0", "y": "a1.h1" if apart else "a0.h1"}
    mlp = "m1" if apart else "m0"
    for bit, head in heads.items():
        at_place = eye(N_CTX)[:, PLACES[bit], None]
        set_head(
            model,
            head,
            q=(stream["position"], 1000 * torch.ones_like(at_place)),  # e^-1000 is 0
            k=(stream["position"], at_place),
            v=(stream["token"], eye(N_TOKENS)[:, TRUE, None]),
            o=(stream[bit], eye(1)),
        )
    sign, threshold = (1, 2.0) if kind == "and" else (-1, -1.0)
    reading = 1.5 * sign * eye(1)
    set_mlp(
        model,
        mlp,
        reads=((stream["x"], reading), (stream["y"], reading)),
        threshold=threshold,
        writes=(stream["output"], sign * eye(1)),
        constant=0 if kind == "and" else 1,
    )
    edges = [f"input->{head}<v>" for head in heads.values()]
    edges += [f"{head}->{mlp}" for head in heads.values()]
    return GroundTruth.of(kind, model, _task(kind, n, seed), [*edges, f"{mlp}->logits"])


def _task(name: str, n: int, seed: int) -> Task:
    """Both bits true; corrupt, both false and other tokens around them."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupt = torch.randint(2, N_TOKENS, (2, n, N_CTX), generator=generator)
    clean[:, list(PLACES.values())], corrupt[:, list(PLACES.values())] = TRUE, FALSE
    answer = torch.full((n,), TRUE)
    return Task.from_tokens(clean, corrupt, answer=answer, wrong=1 - answer, name=name)
