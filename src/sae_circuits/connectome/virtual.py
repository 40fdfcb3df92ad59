"""`virtual_weights`: decoder times encoder between the features of two dictionaries.

With W_dec[u] what a source feature adds to the stream, and r_v that along which a target feature
reads it, its norm's gain and centring included,

    W[u, v]    = W_dec[u] . r_v                       along the stream
    W_h[u, v]  = (W_dec[u] P_l) W_V[h] W_O[h] . r_v   by a head h of a layer l in between

where P_l are gain and centring of the norm before the heads. A target that reads what heads write
has the second alone, of its own layer's heads, with their share of z or of the output as what it
reads. Every scale that depends on the data counts as 1: those of norms, and those by which a
dictionary normalises its input; and so do a head's patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.connectome.paths import Ends, Head
from sae_circuits.connectome.tiles import WIDEST, Listed, largest_of_both, side_within
from sae_circuits.features.asked import Features, check_k, require_features
from sae_circuits.features.effects.directions import require_stream
from sae_circuits.graph import SourceRecord
from sae_circuits.graph.virtual_weights import VirtualWeights
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.provenance import provenance_of
from sae_circuits.shards import (
    Job,
    Means,
    Partial,
    Shard,
    Workers,
    fingerprint,
    run_shards,
    shards_of,
)
from sae_circuits.sizes import Memory, in_bytes

MEMORY = 1 << 26
LEAST = 1 << 20
BAND = 4 * WIDEST  # features of the source in a shard


@overload
def virtual_weights(
    model: Any,
    source: Dictionary,
    target: Dictionary,
    *,
    k: int = 20,
    heads: None = None,
    features: Features = None,
    memory: Memory = MEMORY,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> VirtualWeights: ...
@overload
def virtual_weights(
    model: Any,
    source: Dictionary,
    target: Dictionary,
    *,
    k: int = 20,
    heads: Sequence[Head] | Literal["all"],
    features: Features = None,
    memory: Memory = MEMORY,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> Mapping[Head, VirtualWeights]: ...
@torch.no_grad()
def virtual_weights(
    model: Any,
    source: Any,
    target: Any,
    *,
    k: int = 20,
    heads: Any = None,
    features: Features = None,
    memory: Memory = MEMORY,
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> VirtualWeights | Mapping[Head, VirtualWeights]:
    """Find the strongest connections between two dictionaries that their weights alone make.

        W[u, v] = W_dec[u] . W_read[v]

    or, by a head, `W_dec[u] W_V[h] W_O[h] . W_read[v]`. No data is read: of every norm on the way
    the gain and the centring count and the scale is taken as 1, as are the scales by which a
    dictionary normalises its input, and how much a head attends. Times what the source's activation
    changes by, a weight is what the target's pre-activation changes by along that path, where
    there is no norm.

    All weights are made, one tile after the other, and the strongest of each feature of both sides
    are kept. Of a dictionary that writes in several layers, those before the target, or before
    the head, add up.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        source: a dictionary of z, attn_out, mlp_out or the stream, or a transcoder.
        target: one later in the forward pass that reads the stream; or, with `heads` of its own
            layer, one of z or attn_out.
        k: how many are kept for each feature.
        heads: layers and heads, [(1, 0), (1, 3)], or "all" that lie between: one table for each.
        features: ids of the target's features, in any order; all without it.
        memory: what the work on a tile may take, such as "256MiB", 1 MiB at least. Beside it
            stand the result and, by heads, d_head numbers for each of the target's features.
            Results hang on it no more than on rounding.

        workers, folder: as in `attribute`; shards are of the source's features.
        workers, folder: as in `attribute`; shards are of the source's features.

    Returns:
        One table, or, by heads, one for each, in the order in which they are named.

    Raises:
        GraphError: a target that does not come after the source; heads that are not in between.
        DictionaryError: a dictionary of another model, one that writes what an MLP reads, a target
            that reads an MLP's output, or one that reads what heads write where none is named.
        UnknownName: ids that the target lacks, heads that the model lacks.
        OptionError: `k` below 1, `memory` below 1 MiB, no head.
        NumericalError: weights that are not finite.

    Reference: arXiv 2406.11944, where it is the input-independent connection of transcoders.

    >>> import sae_circuits as sc
    >>> model, saes = sc.load_model("demo"), sc.load_saes("demo", ["resid_post.0", "resid_post.2"])
    >>> sc.virtual_weights(model, *saes, k=5)
    VirtualWeights(resid_post.0 -> resid_post.2: 256 by 256 features, the 5 strongest of each)
    >>> list(sc.virtual_weights(model, *saes, k=5, heads=[(1, 3)]))
    [(1, 3)]
    """
    check_k(k)
    adapter = Adapter.of(model)
    size = in_bytes(memory, adapter.device, least=LEAST)
    require_stream(adapter, source)
    ends = Ends.of(adapter, source, target)
    ids = torch.from_numpy(np.sort(require_features(features, target.n_features)))
    means = Means(workers, folder)
    if heads is None:
        ends.along_stream()  # refuses what has no such way
        return _table(TilesJob(adapter.model, ends, None, ids, k, size), means)
    return {
        head: _table(
            TilesJob(adapter.model, ends, head, ids, k, size),
            means.within("a{}.h{}".format(*head)),
        )
        for head in ends.by_heads(heads)
    }


@dataclass(frozen=True, eq=False)
class TilesJob(Job):
    """The virtual weights of one path, band by band of the source's features.

    Args:
        ids: of the target's features.
        k: how many are kept for each feature.
        memory: bytes that the work on a tile may take.
    """

    model: Any
    ends: Ends
    head: Head | None
    ids: Int64[Tensor, "target"]
    k: int
    memory: int

    name = "virtual weights"
    unit = "feature"

    @property
    def said(self) -> dict[str, Any]:
        """All that decides the weights."""
        return {
            "model": self.ends.adapter.fingerprint,
            "source": self.ends.source.fingerprint,
            "target": self.ends.target.fingerprint,
            "head": None if self.head is None else list(self.head),
            "features": fingerprint(self.ids),
            "k": self.k,
            "memory": self.memory,
        }

    def describe(self, shard: Shard) -> str:
        """Which features of the source."""
        return f"features {shard.start} to {shard.stop - 1} of {self.ends.source.name!r}"

    def open(self) -> Callable[[Shard], Partial]:
        """What is largest in a band, in each of its rows and in each column."""
        ends, dtype, target = self.ends, self.ends.dtype, self.ends.target
        path = ends.along_stream() if self.head is None else ends.by_head(*self.head)
        right = target.W_enc
        if len(self.ids) < target.n_features:
            right = right[:, self.ids.to(right.device)]
        if path.right is not None:
            right = path.right.to(dtype) @ right.to(path.right.device, dtype)
        width = max(ends.adapter.architecture.d_model, len(right))
        side = side_within(self.memory, width, dtype.itemsize)

        @torch.no_grad()
        def band(shard: Shard) -> Partial:
            def left(some: slice) -> Float[Tensor, "some width"]:
                return path.left(slice(shard.start + some.start, shard.start + some.stop))

            n = shard.stop - shard.start
            of, into = largest_of_both(left, n, right, self.k, side)
            ids = torch.where(into.ids < 0, -1, into.ids + shard.start)
            return {"of": of.ids, "of_values": of.values, "into": ids, "into_values": into.values}

        return band


def _table(job: TilesJob, means: Means) -> VirtualWeights:
    source, target, ids, k = job.ends.source, job.ends.target, job.ids, job.k
    found = list(run_shards(job, shards_of(source.n_features, BAND), means))
    of = Listed(*(torch.cat([one[name] for one in found]) for name in ("of", "of_values")))
    into = Listed(*(torch.cat([one[name] for one in found], 1) for name in ("into", "into_values")))
    into = into.largest(min(k, source.n_features))
    of_ids = torch.where(of.ids < 0, -1, ids.to(of.ids.device)[of.ids])
    options: dict[str, Any] = {"k": k}
    if job.head is not None:
        options["head"] = "a{}.h{}".format(*job.head)
    made = provenance_of(
        job.ends.adapter, None, method="virtual", metric="", intervention="", options=options
    )
    return VirtualWeights(
        SourceRecord.of(source),
        SourceRecord.of(target),
        job.head,
        ids.cpu(),
        into.ids.cpu(),
        into.values.cpu(),
        of_ids.cpu(),
        of.values.cpu(),
        made,
    )
