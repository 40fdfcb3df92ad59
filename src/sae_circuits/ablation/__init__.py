"""Interventions on the running model: on edges outside a circuit, or on what single nodes write."""

from sae_circuits.ablation.intervene import Intervened, intervene
from sae_circuits.ablation.interventions import INTERVENTIONS
from sae_circuits.ablation.run import ablate, clean_logits, run_circuits
from sae_circuits.ablation.steering import Change

__all__ = [
    "INTERVENTIONS",
    "Change",
    "Intervened",
    "ablate",
    "clean_logits",
    "intervene",
    "run_circuits",
]
