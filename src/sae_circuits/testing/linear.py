"""A linear model of random weights and random wiring, in which all effects have a closed form.

Every writer has a subspace of its own, and every reader reads those subspaces that it is wired to.
Attention patterns are uniform over the past, there is no norm, and the MLPs have no activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.graph import Circuit, Scores, TensorGraph
from sae_circuits.models.small import linearised, zero_model
from sae_circuits.tasks import Task
from sae_circuits.testing.by_hand import Stream
from sae_circuits.testing.ground_truth import GroundTruth
from sae_circuits.testing.inputs import random_task

N_LAYERS, N_HEADS, WIDTH, N_TOKENS, N_CTX, N_PATHS = 3, 3, 4, 12, 8, 4

Wiring = Callable[[str], Float[Tensor, "d_model 1"]]  # how strongly a reader reads each subspace


@torch.no_grad()
def linear(*, eps: float = 0.0, n: int = 6, seed: int = 0) -> GroundTruth:
    """A few random paths from the input to the logits.

    Args:
        eps: how strongly everything else is wired, beside 1 for the edges of the paths.
        n: examples.
        seed: of the paths, the weights and the task.
    """
    generator = torch.Generator().manual_seed(seed)
    heads = [[f"a{i}.h{h}" for h in range(N_HEADS)] for i in range(N_LAYERS)]
    sites = [site for i in range(N_LAYERS) for site in (heads[i], [f"m{i}"])]
    stream = Stream.of(**dict.fromkeys(["input", *chain(*sites)], WIDTH))
    edges = sorted(set().union(*(_path(sites, generator) for _ in range(N_PATHS))))
    model = linearised(
        zero_model(
            "linear", n_layers=N_LAYERS, n_heads=N_HEADS, d_model=stream.d_model, d_head=WIDTH,
            d_mlp=2 * WIDTH, d_vocab=N_TOKENS, n_ctx=N_CTX,
        )
    )  # fmt: skip

    def wiring(reader: str) -> Float[Tensor, "d_model 1"]:
        strength = torch.full((stream.d_model, 1), eps, dtype=torch.float64)
        for writer, where in stream.subspaces.items():
            if f"{writer}->{reader}" in edges:
                strength[where] = 1
        return strength

    _fill(model, stream, wiring, generator)
    task = replace(random_task(n, N_CTX, N_TOKENS, seed), name="linear")
    made = GroundTruth.of("linear", model, task, edges)
    return replace(made, effects=effects(model, made.graph, task))


def _path(sites: list[list[str]], generator: torch.Generator) -> list[str]:
    """The edges of a path from the input to the logits, by way of a random half of the sites."""
    edges, at = [], "input"
    for names in sites:
        if torch.rand((), generator=generator) < 0.5:
            name = names[int(torch.randint(len(names), (), generator=generator))]
            edges.append(f"{at}->{name}{'<v>' if name.startswith('a') else ''}")
            at = name
    return [*edges, f"{at}->logits"]


def _fill(model: Any, stream: Stream, wiring: Wiring, generator: torch.Generator) -> None:
    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return drawn / math.sqrt(WIDTH)

    model.embed.W_E[:, stream["input"]] = draw(N_TOKENS, WIDTH)
    for i, block in enumerate(model.blocks):
        attn, mlp = block.attn, block.mlp
        for h in range(N_HEADS):
            attn.W_V[h] = draw(stream.d_model, WIDTH) * wiring(f"a{i}.h{h}<v>")
            attn.W_O[h, :, stream[f"a{i}.h{h}"]] = draw(WIDTH, WIDTH)
        mlp.W_in.copy_(draw(stream.d_model, 2 * WIDTH) * wiring(f"m{i}"))
        mlp.W_out[:, stream[f"m{i}"]] = draw(2 * WIDTH, WIDTH)
    model.unembed.W_U.copy_(draw(stream.d_model, N_TOKENS) * wiring("logits"))


@torch.no_grad()
def effects(model: Any, graph: TensorGraph, task: Task) -> Scores:
    """The exact score of every edge, as products of weights.

    With P the uniform pattern, M_c = W_V W_O of a head and W_in W_out of an MLP, and P_c = P for a
    head and the identity for an MLP,

        D_c = P_c (sum of D_u over the u that c sees) M_c        D_input = E_corrupt - E_clean
        G_c = P_c^T (sum of G_v over the v that see c) M_c^T     G_logits = W_U (e_right - e_wrong)
        score(u -> v) = D_u . G_v

    and 0 for every edge to a query or a key. This is the algebra of the linear model alone: nothing
    of it is shared with the methods that it checks.
    """
    n, pos = task.clean.shape
    pattern = torch.ones(pos, pos, dtype=torch.float64).tril()
    pattern /= pattern.sum(1, keepdim=True)
    same = torch.eye(pos, dtype=torch.float64)
    maps = {}
    for i, block in enumerate(model.blocks):
        for h in range(model.cfg.n_heads):
            maps[f"a{i}.h{h}"] = pattern, block.attn.W_V[h] @ block.attn.W_O[h]
        maps[f"m{i}"] = same, block.mlp.W_in @ block.mlp.W_out
    seen = {name: [] for name in [*maps, "logits"]}  # writers by reader
    sees = {name: [] for name in ["input", *maps]}  # readers by writer
    for edge in Circuit.full(graph).edges:
        if edge.dest.port in (None, "v"):
            seen[edge.dest.component.name].append(edge.src.name)
            sees[edge.src.name].append(edge.dest.component.name)
    change = {"input": model.embed.W_E[task.corrupt] - model.embed.W_E[task.clean]}
    for name, (mix, matrix) in maps.items():
        change[name] = mix @ sum(change[writer] for writer in seen[name]) @ matrix
    slope = torch.zeros(n, pos, model.cfg.d_model, dtype=torch.float64)
    W_U = model.unembed.W_U.T
    slope[torch.arange(n), task.position] = W_U[task.answer[:, 0]] - W_U[task.wrong[:, 0]]
    slopes = {"logits": slope}
    for name, (mix, matrix) in reversed(maps.items()):
        slopes[name] = mix.T @ sum(slopes[reader] for reader in sees[name]) @ matrix.T
    values = torch.zeros(graph.n_edges, dtype=torch.float64)
    for i, edge in enumerate(graph.edges):
        if edge.dest.port in (None, "v"):
            values[i] = (change[edge.src.name] * slopes[edge.dest.component.name]).sum() / n
    return Scores(graph, values)
