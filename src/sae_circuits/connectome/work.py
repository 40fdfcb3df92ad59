"""What the ways of `ways.py` share: what upstream features are set to, and sums over pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_circuits.attribution.sparse import ActivePlaced
from sae_circuits.connectome.components import Component
from sae_circuits.connectome.look import Looked, look, real_tokens
from sae_circuits.models.adapter import Adapter
from sae_circuits.tasks import Task

Reference = str | float | tuple[str, float]
"""What upstream features are set to: a name, a number, or ("scale", a multiple)."""


class Sums(NamedTuple):
    """Values of pairs, but for zeros.

    Args:
        keys: v * n + u, of the n sources' u and the targets' v, ascending.
    """

    keys: Int64[Tensor, "pair"]
    values: Float[Tensor, "pair"]

    @classmethod
    def of(cls, v: Tensor, u: Tensor, values: Float[Tensor, "v u"], n: int) -> Sums:
        """Those of a block, on the CPU in float64."""
        keys = (v[:, None] * n + u).cpu().flatten()
        flat = values.double().cpu().flatten()
        there = flat != 0  # NaN is
        return cls(keys[there], flat[there])

    @classmethod
    def merged(cls, parts: Sequence[Sums]) -> Sums:
        """The sum of several."""
        if not parts:
            return cls(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64))
        keys, at = torch.cat([part.keys for part in parts]).unique(return_inverse=True)
        values = torch.zeros(len(keys), dtype=torch.float64)
        return cls(keys, values.index_add_(0, at, torch.cat([part.values for part in parts])))


class Part(NamedTuple):
    """What a way finds on a batch, as sums over its prompts.

    Args:
        values: by source, of its pairs.
        errors: by source, what all changes that its features do not write, for each target.
        active: the targets' activations, summed over tokens.
    """

    values: Mapping[str, list[Sums]]
    errors: Mapping[str, Float[Tensor, "target"]]
    active: Float[Tensor, "target"]


@dataclass(frozen=True, eq=False)
class Work:
    """All that the ways need.

    Args:
        target: a dictionary with the features that are targets.
        through: a component that `direct` goes through, such as "a3" or "m3".
        rows: prompts, or copies of them, at a time.
        space: bytes in which products, and the targets' activations, are made.
        asked: of each source, the features to patch.
    """

    adapter: Adapter
    sources: Sequence[ActivePlaced]
    target: ActivePlaced
    task: Task
    reference: Reference
    positions: Sequence[int] | None
    steps: int | None
    through: str | None
    rows: int
    space: int
    asked: Mapping[str, list[int]] | None
    means: Mapping[str, Tensor]

    # -- changes of upstream features ------------------------------------------------------------

    def set_at(self, batch: Task) -> Bool[Tensor, "batch pos"]:
        """Where upstream features are set."""
        real = real_tokens(batch, self.adapter.device)
        if self.positions is None:
            return real
        chosen = torch.zeros(real.shape[1], dtype=torch.bool, device=real.device)
        chosen[list(self.positions)] = True
        return real & chosen

    def changes(
        self, batch: Task, seen: Looked, other: Looked | None
    ) -> Iterator[tuple[ActivePlaced, Float[Tensor, "batch pos feature"]]]:
        """D of each dictionary's features, 0 at padding and where they are not to be set."""
        where = self.set_at(batch)[..., None]
        for source in self.sources:
            f = source.dictionary.encode(seen.encoded[source.name].detach())
            if other is not None:
                change = source.dictionary.encode(other.encoded[source.name]) - f
            elif self.reference == "mean":
                change = self.means[source.name].to(f.dtype) - f
            elif self.multiple is not None:
                change = (self.multiple - 1) * f
            else:
                assert isinstance(self.reference, float)
                change = self.reference - f
            yield source, change * where

    def of(self, sources: Sequence[ActivePlaced]) -> Work:
        """The same of some of its sources."""
        return replace(self, sources=sources)

    @property
    def n_features(self) -> int:
        """How many features the target's dictionary has, with those that are no targets."""
        return self.target.split.dictionary.n_features

    @property
    def multiple(self) -> float | None:
        """What features are multiplied by, if that is what is asked for."""
        if self.reference == "zero":
            return 0.0
        return self.reference[1] if isinstance(self.reference, tuple) else None

    def other(self, batch: Task) -> Looked | None:
        """The run that features are set to, if that is one."""
        if self.reference != "corrupt":
            return None
        return look(self.adapter, self.sources, batch.swapped())

    def written(
        self, source: ActivePlaced, seen: Looked, change: Float[Tensor, "batch pos some"]
    ) -> Float[Tensor, "batch pos some"]:
        """How much of their directions features add where they write."""
        d = source.dictionary
        scale = d.scale(seen.encoded[source.name].detach()) if d.is_sae else None
        return change if scale is None else change * scale.multiply

    def sums(
        self,
        source: ActivePlaced,
        v: Int64[Tensor, "v"],
        u: Int64[Tensor, "u"],
        values: Float[Tensor, "v u"],
    ) -> Sums:
        """Those of a source's features, or of its heads, for some targets."""
        if isinstance(source, Component):
            values = source.by_member(u, values)
            u = torch.arange(len(source.members))
            return Sums.of(v.cpu(), u, values, len(u))
        return Sums.of(v, u, values, source.dictionary.n_features)

    # -- targets ---------------------------------------------------------------------------------

    def open(
        self, encoded: Float[Tensor, "row pos d_in"], real: Bool[Tensor, "row pos"]
    ) -> tuple[Float[Tensor, "row pos target"], Bool[Tensor, "row pos target"]]:
        """The targets' pre-activations, and where they are active, which is f's derivative."""
        d = self.target.dictionary
        pre = d.pre_activation(encoded.detach())
        gate, columns = d.gate(pre), self.target.columns
        if not isinstance(columns, slice):
            pre, gate = pre[..., columns], gate[..., columns]
        return pre, gate.bool() & real[..., None]


@torch.no_grad()
def means_of(
    adapter: Adapter, sources: Sequence[ActivePlaced], task: Task, size: int
) -> dict[str, Tensor]:
    """The mean activation of upstream features over real tokens."""
    sums: dict[str, Tensor] = {}
    for batch in task.batches(size):
        seen, real = look(adapter, sources, batch), real_tokens(batch, adapter.device)
        for source in sources:
            f = source.dictionary.encode(seen.encoded[source.name])
            own = (f.double() * real[..., None]).sum((0, 1))
            sums[source.name] = sums.get(source.name, 0) + own
    return {name: x / int(task.lengths.sum()) for name, x in sums.items()}
