"""The tokens that a feature makes more likely to come next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

from sae_circuits.errors import NumericalError, OptionError
from sae_circuits.features.columns import Columns
from sae_circuits.features.labels.predicates import TokenIn
from sae_circuits.features.labels.strategy import Proposal, Propose, Setting, Strategy
from sae_circuits.features.labels.words import folded, listed


@runtime_checkable
class TopTokens(Protocol):
    """The tokens that some features promote most, the most first; -1 where that is undefined."""

    @property
    def features(self) -> Int[np.ndarray, "feature"]:
        """Their ids."""
        ...

    @property
    def top_tokens(self) -> Int[np.ndarray, "feature k"]:
        """The tokens."""
        ...


def make(setting: Setting, *, effects: Any, top: int, named: int) -> Propose:
    """Labels such as `makes "dog" or "cat" likely`: the next token is one of those promoted most.

    Args:
        effects: `TopTokens`, as of `logit_effects`; or what each feature adds to each token's
            logit, [feature, vocab].
        top: how many tokens a label foretells, at most.
        named: how many words of them it names.

    Raises:
        OptionError: no effects, effects of another shape or vocabulary, `top` or `named` below 1.
        NumericalError: NaN or infinity in an array, with the feature.
    """
    if effects is None:
        raise OptionError("strategy 'logits' needs logits={'effects': logit_effects(model, sae)}")
    n_vocab = len(setting.part.corpus.vocabulary)
    if not 1 <= top <= n_vocab or named < 1:
        raise OptionError(f"top={top}, named={named}: 1 to {n_vocab} tokens, 1 or more names")
    if hasattr(effects, "top_tokens"):
        tokens = _from_list(effects, n_vocab)
    else:
        tokens = _from_array(np.asarray(effects), (setting.n_features, n_vocab), top)

    def propose(columns: Columns) -> Iterator[Proposal]:
        for feature in columns.features[columns.counts > 0].tolist():
            best = tokens.get(feature, ())[:top]
            if best:
                yield _proposal(setting, feature, best, named)

    return propose


def _from_list(effects: TopTokens, n_vocab: int) -> dict[int, tuple[int, ...]]:
    rows = effects.top_tokens.tolist()
    if effects.top_tokens.size and effects.top_tokens.max() >= n_vocab:
        raise OptionError(
            f"the effects promote token {effects.top_tokens.max()}, and the corpus has "
            f"{n_vocab}: take those of the model that the corpus is for"
        )
    pairs = zip(effects.features.tolist(), rows, strict=True)
    return {feature: tuple(token for token in row if token >= 0) for feature, row in pairs}


def _from_array(
    effects: Shaped[np.ndarray, "..."], shape: tuple[int, int], top: int
) -> dict[int, tuple[int, ...]]:
    """The same from all effects; ties by the lower id."""
    if effects.shape != shape:
        raise OptionError(f"logit effects are of shape {effects.shape}, and {shape} is needed")
    found = {}
    for feature, row in enumerate(effects):
        if not np.isfinite(row).all():
            raise NumericalError(f"the logit effects of feature {feature} are not all finite")
        least = np.partition(row, len(row) - top)[len(row) - top]
        near = np.flatnonzero(row >= least)  # more than top of them where some are equal
        found[feature] = tuple(near[np.argsort(-row[near], kind="stable")[:top]].tolist())
    return found


def _proposal(setting: Setting, feature: int, best: tuple[int, ...], named: int) -> Proposal:
    vocabulary = setting.part.corpus.vocabulary
    texts: dict[str, str] = {}
    for token in best:
        text = vocabulary[token]
        texts.setdefault(folded(text), text.strip() or text)
    text = f"makes {listed(list(texts.values())[:named])} likely"
    return Proposal(feature, text, TokenIn(best, 1), {"ids": list(best), "offset": 1})


STRATEGY = Strategy(name="logits", make=make, options={"effects": None, "top": 10, "named": 5})
