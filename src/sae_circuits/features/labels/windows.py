"""Pieces of prompts that a language model reads: what it explains, and what it is tested on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from sae_circuits.features.corpus import Corpus
from sae_circuits.features.labels.parts import Ground, Part, Places

Windows = Int64[np.ndarray, "_"]


def windows_of(corpus: Corpus, size: int) -> Int64[np.ndarray, "token"]:
    """The number of each token's window: prompts are cut every `size` tokens."""
    return np.cumsum(corpus.positions % size == 0).astype(np.int64) - 1


def read_marked(
    ground: Ground, places: Places, active: Places, values: Float32[np.ndarray, "active"]
) -> str:
    """A window's text with << >> around the tokens that fire, and their strengths behind it.

    Strengths run from 1 to 10, the largest in `values`.
    """
    strength = dict(zip(active.tolist(), np.ceil(10 * values / values.max()).tolist(), strict=True))
    text, notes = [], []
    for place in places.tolist():
        piece = ground.pieces[ground.corpus.tokens[place]]
        if place in strength:
            body = piece.strip() or piece
            lead = piece[: piece.index(body)]
            notes.append(f"{body!r} {max(int(strength[place]), 1)}")
            piece = f"{lead}<<{piece[len(lead) :]}>>"
        text.append(piece)
    return f"{''.join(text).strip()}\n(strengths: {', '.join(notes)})"


def read_numbered(ground: Ground, places: Places) -> str:
    """A window's tokens, each with its number from 0."""
    pieces = (ground.pieces[token] for token in ground.corpus.tokens[places].tolist())
    return " ".join(f"{i}={piece!r}" for i, piece in enumerate(pieces))


def strongest(
    windows: Windows, values: Float32[np.ndarray, "active"], n: int, rng: np.random.Generator
) -> Windows:
    """At most n windows: one half those with the strongest activations, the others drawn.

    Args:
        windows: of each activation.
        values: the activations.
    """
    order = windows[np.argsort(-np.abs(values), kind="stable")]
    every = order[np.sort(np.unique(order, return_index=True)[1])]  # each once, strongest first
    first, rest = every[: (n + 1) // 2], every[(n + 1) // 2 :]
    drawn = rng.choice(rest, min(n - len(first), len(rest)), replace=False)
    return np.concatenate([first, np.sort(drawn)])


def sampled(held: Part, active: Places, size: int, n: int, rng: np.random.Generator) -> Part:
    """A part of n windows, half of them with activity, in which each token has its weight.

    A token stands for as many as there are windows of its kind, with or without activity, to each
    window drawn, so that shares in the sample are fair to the whole.
    """
    window = windows_of(held.corpus, size)
    every = np.unique(window[held.places])
    busy = np.isin(every, window[active])
    is_in, weight = np.zeros_like(held.is_in), np.zeros(len(held.is_in))
    half = min(n // 2, int(busy.sum()))
    for some, count in ((every[busy], half), (every[~busy], n - half)):
        drawn = rng.choice(some, min(count, len(some)), replace=False)
        inside = held.is_in & np.isin(window, drawn)
        is_in |= inside
        weight[inside] = len(some) / max(len(drawn), 1)
    return Part(held.ground, is_in, weight)
