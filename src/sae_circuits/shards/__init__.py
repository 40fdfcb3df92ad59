"""Work in parts: pure functions of shards, one after the other or on several workers."""

from sae_circuits.shards.identity import fingerprint
from sae_circuits.shards.job import InProcess, Job, Partial, Shard, Workers, shards_of
from sae_circuits.shards.run import Means, run_shards

__all__ = [
    "InProcess",
    "Job",
    "Means",
    "Partial",
    "Shard",
    "Workers",
    "fingerprint",
    "run_shards",
    "shards_of",
]
