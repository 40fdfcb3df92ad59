"""Dictionaries of which only the size is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sae_circuits.errors import OptionError
from sae_circuits.graph import Architecture
from sae_circuits.graph.splits import PARTS


@dataclass(frozen=True, slots=True)
class Place:
    """Where a dictionary reads or writes."""

    kind: str
    layer: int

    @property
    def name(self) -> str:
        """Such as "mlp_out.3"."""
        return f"{self.kind}.{self.layer}"


@dataclass(frozen=True, slots=True)
class Sized:
    """A dictionary without weights; see `FeatureSource`."""

    reads: Place
    writes: Sequence[Place]
    n_features: int
    is_sae: bool = True
    has_skip: bool = False
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return self.reads.name

    def require_fits(self, arch: Architecture) -> None:
        """All sizes fit."""


def sized(arch: Architecture, features: Mapping[str, int]) -> list[Sized]:
    """Dictionaries at places: "mlp_out" in every layer, "mlp_out.3" in one; or "transcoder".

    Raises:
        OptionError: no such place or layer, or no feature.
    """
    found = []
    for place, n in features.items():
        kind, dot, layer = place.partition(".")
        known = (*PARTS, "transcoder")
        if kind not in known or (dot and not layer.isdecimal()) or n < 1:
            raise OptionError(
                f"features {place}={n}: give 1 or more for one of {', '.join(known)}, in every "
                "layer or in one, such as 'mlp_out.3'"
            )
        if dot and int(layer) >= arch.n_layers:
            raise OptionError(f"features {place}: layers are 0 to {arch.n_layers - 1}")
        for at in [int(layer)] if dot else range(arch.n_layers):
            reads = Place("mlp_in" if kind == "transcoder" else kind, at)
            writes = Place("mlp_out", at) if kind == "transcoder" else reads
            found.append(Sized(reads, (writes,), n, is_sae=kind != "transcoder"))
    return found
