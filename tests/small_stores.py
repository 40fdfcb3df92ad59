"""A small model with an SAE, stores of them, and how two stores are compared."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

import sae_circuits as sc
from sae_circuits.features.corpus import Corpus, Vocabulary
from sae_circuits.features.examples import Wanted, Windows
from sae_circuits.features.sources import HeldSource
from sae_circuits.features.store.schema import TABLES
from sae_circuits.features.store.tables import Contents
from shapes import D_VOCAB, hooked
from small_saes import random_sae

HOOK = "blocks.0.hook_mlp_out"
LENGTHS = (9, 1, 17, 4, 3, 12)
CONTENTS = Contents(
    Windows(2, 1), Wanted(top=4, intervals=2, quantiles=2, each=2), bins=6, tokens=4,
    neighbours=3, logits=4,
)  # fmt: skip


@cache
def model():
    return hooked("gpt2", n_ctx=20)


@cache
def sae(n: int = 9):
    return random_sae("standard", HOOK, model().cfg.d_model, n, dtype="float64")


def corpus(lengths=LENGTHS, seed: int = 0) -> Corpus:
    """Random prompts that begin with a special token, but for the second, which is one other."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(1, D_VOCAB, n) for n in lengths]
    for prompt in (prompts[0], *prompts[2:]):
        prompt[0] = 0
    texts = ("<s>", *(f" w{i}" for i in range(1, D_VOCAB)))
    return Corpus.of_prompts(prompts, Vocabulary(texts, frozenset([0])), "random")


def store(of: Corpus | None = None, out: Any = None, **options: Any) -> sc.FeatureDictionary:
    """Of the model and its SAE."""
    options = {"contents": CONTENTS, **options}
    return sc.FeatureDictionary.build(model(), sae(), of or corpus(), out, **options)


def planted(out: Any = None, **options: Any) -> sc.FeatureDictionary:
    """Named features of which each does something that can be said: see `test_searches`."""
    texts = ("<s>", " John", "john", " Johnny", " a", "\n", " <script>alert(1)</script>", " 42")
    prompts = [[0, 1, 4, 1, 5], [0, 2, 4, 3, 5], [0, 6, 4, 7, 1], [4]]
    features: dict[str, dict[int, float]] = {  # place: activation
        "truth": {1: 2, 3: 1, 14: 4, 6: 1},
        "names": {1: 1, 3: 1, 6: 1, 8: 1, 14: 1},
        "tags": {11: 3},
        "silent": {},
        "line ends": {4: 1, 9: 2},
        "digits": {13: 0.5},
    }
    held = torch.zeros(sum(map(len, prompts)), len(features))
    for f, values in enumerate(features.values()):
        for place, value in values.items():
            held[place, f] = value
    corpus = Corpus.of_prompts(prompts, Vocabulary(texts, frozenset([0])), "planted")
    source = HeldSource(held, tuple(features))
    return sc.FeatureDictionary.build(None, source, corpus, out, **options)


def rows_of(found: sc.FeatureDictionary) -> dict[str, list[Any]]:
    """All rows of all tables but the record, in an order that is the same for the same rows."""
    return {
        name: sorted(found.database.rows(f'FROM "{name}"'), key=repr)
        for name in TABLES
        if name != "meta"
    }


def same(a: sc.FeatureDictionary, b: sc.FeatureDictionary) -> bool:
    """Whether two stores hold the same, to the bit."""
    ours, theirs = rows_of(a), rows_of(b)
    assert all(ours[name] for name in ours if name not in ("labels", "logits", "heads"))
    return ours == theirs


def record_of(found: sc.FeatureDictionary) -> dict[str, Any]:
    """What a store says of itself, but for how it came about."""
    meta = found.database.meta()
    return {key: value for key, value in meta.items() if key not in ("made", "pieces")}
