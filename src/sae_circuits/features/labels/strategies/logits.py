"""The tokens that a feature makes more likely to come next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sae_circuits.errors import NumericalError, OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.predicates import TokenIn
from sae_circuits.features.labels.strategy import Proposal, Propose, Setting, Strategy
from sae_circuits.features.labels.words import folded, listed

Effects = Any  # [feature, vocab], or a function from ids of features to such rows


def make(setting: Setting, *, effects: Effects | None, top: int, named: int) -> Propose:
    """Labels such as `makes "dog" or "cat" likely`: the next token is one of those promoted most.

    Args:
        effects: what each feature adds to each token's logit, [feature, vocab]; or a function that
            gets ids of features and returns their rows.
        top: how many tokens a label foretells.
        named: how many words of them it names.

    Raises:
        OptionError: no effects, effects of another shape, or `top` or `named` below 1.
        NumericalError: NaN or infinity, with the feature.
    """
    if effects is None:
        raise OptionError("strategy 'logits' needs logits={'effects': [feature, vocab]}")
    n_vocab = len(setting.part.corpus.vocabulary)
    if not 1 <= top <= n_vocab or named < 1:
        raise OptionError(f"top={top}, named={named}: 1 to {n_vocab} tokens, 1 or more names")
    if not callable(effects):
        _check(np.shape(effects), (setting.n_features, n_vocab))
    rows_of: Callable[..., Any] = effects if callable(effects) else lambda f: effects[f]

    def propose(columns: Columns) -> Iterator[Proposal]:
        alive = columns.features[columns.counts > 0]
        if not len(alive):
            return
        rows = np.asarray(rows_of(alive))
        _check(rows.shape, (len(alive), n_vocab))
        for feature, row in zip(alive.tolist(), rows, strict=True):
            yield _proposal(setting, feature, row, top, named)

    return propose


def _check(shape: tuple[int, ...], wanted: tuple[int, int]) -> None:
    if tuple(shape) != wanted:
        raise OptionError(f"logit effects are of shape {tuple(shape)}, and {wanted} is needed")


def _proposal(setting: Setting, feature: int, row: np.ndarray, top: int, named: int) -> Proposal:
    if not np.isfinite(row).all():
        raise NumericalError(f"the logit effects of feature {feature} are not all finite")
    cut = np.partition(row, len(row) - top)[len(row) - top]
    near = np.flatnonzero(row >= cut)  # more than top of them where some are equal
    best = near[np.argsort(-row[near], kind="stable")[:top]]
    vocabulary = setting.part.corpus.vocabulary
    texts = {folded(vocabulary[int(i)]): vocabulary[int(i)] for i in best[::-1]}
    first = [texts[word] for word in dict.fromkeys(folded(vocabulary[int(i)]) for i in best)]
    names = [text.strip() or text for text in first[:named]]
    made = {"ids": best.tolist(), "offset": 1, "effects": [float(row[i]) for i in best]}
    text = f"makes {listed(names)} likely"
    return Proposal(feature, text, TokenIn(tuple(best.tolist()), 1), made)


STRATEGY = Strategy(name="logits", make=make, options={"effects": None, "top": 10, "named": 5})
