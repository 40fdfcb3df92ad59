"""Work in parts: pure functions of shards, one after the other or on several workers."""

from sae_circuits.shards.folder import ShardFolder
from sae_circuits.shards.identity import fingerprint
from sae_circuits.shards.job import InProcess, Job, Partial, Shard, Workers, shards_of
from sae_circuits.shards.run import Kept, Means, keep_shards, run_shards

__all__ = [
    "InProcess",
    "Job",
    "Kept",
    "Means",
    "Partial",
    "Shard",
    "ShardFolder",
    "Workers",
    "fingerprint",
    "keep_shards",
    "run_shards",
    "shards_of",
]
