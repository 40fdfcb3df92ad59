"""An induction model with weights set by hand, whose circuit is known exactly.

The stream is split into blocks: token, position, previous token, output, junk. Head 0.1 copies the
token before; head 1.2 looks for the place whose token before is the current one and copies what
stands there to the output. All other heads and MLPs read everything and write to junk, and `eps`
times as much to the output. At eps = 0 only `TRUE_EDGES` carry anything that the logits depend on.
"""

from __future__ import annotations

import math

import torch

from sae_circuits.tasks import Task
from shapes import quiet

N_TOKENS, N_CTX, N_JUNK = 14, 10, 8
D_HEAD, D_MLP = N_TOKENS, 16
TOKEN = slice(0, N_TOKENS)
POSITION = slice(TOKEN.stop, TOKEN.stop + N_CTX)
PREVIOUS = slice(POSITION.stop, POSITION.stop + N_TOKENS)
OUTPUT = slice(PREVIOUS.stop, PREVIOUS.stop + N_TOKENS)
JUNK = slice(OUTPUT.stop, OUTPUT.stop + N_JUNK)
D_MODEL = JUNK.stop

TRUE_EDGES = (
    "input->a0.h1<v>",
    "a0.h1->a1.h2<k>",
    "input->a1.h2<q>",
    "input->a1.h2<v>",
    "a1.h2->logits",
)


@torch.no_grad()
def induction_model(*, sharpness: float = 4.0, eps: float = 0.0, seed: int = 0):
    """Make the model in float64.

    Args:
        sharpness: the attention score of a match; of all else it is 0.
        eps: how strongly the other heads and MLPs write to the output.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    with quiet():
        cfg = HookedTransformerConfig(
            n_layers=2,
            n_heads=4,
            d_model=D_MODEL,
            d_head=D_HEAD,
            d_mlp=D_MLP,
            d_vocab=N_TOKENS,
            n_ctx=N_CTX,
            act_fn="relu",
            normalization_type=None,
            use_attn_scale=False,
            dtype=torch.float64,
            model_name="induction",
        )
        model = HookedTransformer(cfg, move_to_device=False).eval()
    for parameter in model.parameters():
        parameter.zero_()
    model.embed.W_E[:, TOKEN] = torch.eye(N_TOKENS)
    model.pos_embed.W_pos[:, POSITION] = torch.eye(N_CTX)
    model.unembed.W_U[OUTPUT] = torch.eye(N_TOKENS)
    _fill_with_junk(model, eps, seed)
    previous, match = model.blocks[0].attn, model.blocks[1].attn
    for weights in (previous.W_Q, previous.W_K, previous.W_V, previous.W_O):
        weights[1] = 0
    for weights in (match.W_Q, match.W_K, match.W_V, match.W_O):
        weights[2] = 0
    places = torch.arange(N_CTX)
    previous.W_Q[1, POSITION][places, places] = 30.0  # the place before, and no other
    previous.W_K[1, POSITION][places[:-1], places[1:]] = 1.0
    previous.W_V[1, TOKEN] = torch.eye(N_TOKENS)
    previous.W_O[1, :, PREVIOUS] = torch.eye(N_TOKENS)
    match.W_Q[2, TOKEN] = sharpness * torch.eye(N_TOKENS)
    match.W_K[2, PREVIOUS] = torch.eye(N_TOKENS)
    match.W_V[2, TOKEN] = torch.eye(N_TOKENS)
    match.W_O[2, :, OUTPUT] = torch.eye(N_TOKENS)
    return model


def _fill_with_junk(model, eps: float, seed: int) -> None:
    """Every head and MLP reads everything, writes to junk, and eps times as much to the output."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, fan_in: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) / math.sqrt(fan_in)

    write = torch.zeros(D_MODEL, dtype=torch.float64)
    write[JUNK], write[OUTPUT] = 1.0, eps
    for block in model.blocks:
        for weights in (block.attn.W_Q, block.attn.W_K, block.attn.W_V):
            weights.copy_(draw(*weights.shape, fan_in=D_MODEL))
        block.attn.W_O.copy_(draw(*block.attn.W_O.shape, fan_in=D_HEAD) * write)
        block.mlp.W_in.copy_(draw(*block.mlp.W_in.shape, fan_in=D_MODEL))
        block.mlp.W_out.copy_(draw(*block.mlp.W_out.shape, fan_in=D_MLP) * write)


def induction_task(n: int = 8, seed: int = 0) -> Task:
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
    return Task.from_tokens(clean, corrupt, answer=answer, wrong=wrong, name="induction by hand")
