"""Interventions on the running model: on edges outside a circuit, or on what single nodes write."""

from sae_circuits.ablation.constants import learn_constants
from sae_circuits.ablation.intervene import Intervened, intervene
from sae_circuits.ablation.interventions import INTERVENTIONS
from sae_circuits.ablation.run import ablate, clean_logits, run_circuits
from sae_circuits.ablation.steering import Change
from sae_circuits.ablation.values import Intervening, NodeValues, intervention_name

__all__ = [
    "INTERVENTIONS",
    "Change",
    "Intervened",
    "Intervening",
    "NodeValues",
    "ablate",
    "clean_logits",
    "intervene",
    "intervention_name",
    "learn_constants",
    "run_circuits",
]
