"""Gradient interaction modifications: EAP with a backward pass that sees through self-repair.

Edin et al. 2025, arXiv 2505.17630, with the defaults of the package `gim-explain`. The gradient of
a softmax is taken at a temperature of 2, where what it attends to is less saturated; the scales of
norms are constant; and where things are multiplied, each gets its share of the gradient: a quarter
to queries and to keys, half to values, and half to each factor of a gated product. So a score is a
share, in the metric's unit: an edge into a value has half of its effect on a linear model.

2 forward passes and 1 backward.
"""

from sae_circuits.attribution.method import Method, one_gradient, with_rules
from sae_circuits.errors import OptionError
from sae_circuits.models.backward import BackwardRules


def rules(*, temperature: float, q_scale: float, k_scale: float, v_scale: float) -> BackwardRules:
    """Those of gradient interaction modifications.

    Raises:
        OptionError: a temperature that is not above 0.
    """
    if not temperature > 0:
        raise OptionError(f"temperature={temperature}: give a number above 0; 1 changes nothing")
    return BackwardRules(
        norms_constant=True,
        halve_products=True,
        softmax_temperature=temperature,
        q_scale=q_scale,
        k_scale=k_scale,
        v_scale=v_scale,
    )


METHOD = Method(
    name="gim",
    score_batch=with_rules(rules),
    passes=one_gradient,
    reference="arXiv 2505.17630",
    interventions=("corrupt", "resample", "zero", "mean", "mean-positional"),
    options={"temperature": 2.0, "q_scale": 0.25, "k_scale": 0.25, "v_scale": 0.5},
    estimates_effect=False,
)
