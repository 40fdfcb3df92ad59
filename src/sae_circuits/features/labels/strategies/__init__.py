"""The strategies: one file each, which says what it looks for and what its labels foretell."""

from sae_circuits.features.labels.strategies import (
    clusters,
    explainer,
    logits,
    manual,
    neuronpedia,
    ngrams,
    patterns,
    previous,
    tokens,
)
from sae_circuits.features.labels.strategy import Strategy

STRATEGIES: dict[str, Strategy] = {
    module.STRATEGY.name: module.STRATEGY
    for module in (
        tokens,
        ngrams,
        patterns,
        previous,
        clusters,
        logits,
        manual,
        explainer,
        neuronpedia,
    )
}
