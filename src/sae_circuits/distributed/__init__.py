"""What runs a job's shards beside this process: several devices, or a cluster."""

from sae_circuits.distributed.workers import workers

__all__ = ["workers"]
