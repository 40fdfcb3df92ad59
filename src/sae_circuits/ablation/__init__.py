"""Interventions on the running model: every edge outside a circuit carries something else."""

from sae_circuits.ablation.interventions import INTERVENTIONS
from sae_circuits.ablation.run import ablate, clean_logits, run_circuits

__all__ = ["INTERVENTIONS", "ablate", "clean_logits", "run_circuits"]
