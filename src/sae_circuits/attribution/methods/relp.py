"""Relevance patching: EAP with the backward pass of layer-wise relevance propagation.

Rezaei Jafari, Eberle, Khakzar and Nanda 2025, arXiv 2508.21258. The scales of norms are constant
(LN-rule); an activation is x (act(x) / x) with the ratio constant (identity rule); and each factor
of a gated product gets half of its gradient (half rule). `constant_patterns` holds attention
patterns constant too (AH-rule), so that queries and keys score zero; by default, as in the authors'
code, they are not. What is left is linear: with constant patterns and no bias, the scores of the
edges that leave the input, and of those that enter the logits, add up to the same under `zero`.

2 forward passes and 1 backward.
"""

from sae_circuits.attribution.method import Method, one_gradient, with_rules
from sae_circuits.models.backward import BackwardRules


def rules(*, constant_patterns: bool) -> BackwardRules:
    """Those of relevance propagation."""
    return BackwardRules(
        norms_constant=True,
        ratios_constant=True,
        halve_products=True,
        patterns_constant=constant_patterns,
    )


METHOD = Method(
    name="relp",
    score_batch=with_rules(rules),
    passes=one_gradient,
    reference="arXiv 2508.21258",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={"constant_patterns": False},
)
