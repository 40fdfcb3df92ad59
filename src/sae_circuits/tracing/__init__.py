"""Attribution graphs: the direct effects behind what a model says on one prompt."""

from sae_circuits.tracing.run import trace

__all__ = ["trace"]
