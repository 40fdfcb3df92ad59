"""What features do to each other, and directions that stand as features."""

from sae_circuits.connectome import directions

__all__ = ["directions"]
