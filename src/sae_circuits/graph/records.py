"""What files say of the dictionaries of a graph, in place of the dictionaries themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sae_circuits.errors import GraphError
from sae_circuits.graph.splits import FeatureSource


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """Enough of a dictionary to tell whether another one is the same.

    Args:
        name: for messages.
        reads: the name of the site where it reads, such as `mlp_in.3`.
        writes: the names of the sites where it writes.
        n_features: how many features it has.
        fingerprint: a hash of its weights.
    """

    name: str
    reads: str
    writes: tuple[str, ...]
    n_features: int
    fingerprint: str

    @classmethod
    def of(cls, source: FeatureSource) -> SourceRecord:
        """The record of a dictionary."""
        writes = tuple(site.name for site in source.writes)
        return cls(source.name, source.reads.name, writes, source.n_features, source.fingerprint)

    def difference(self, other: SourceRecord) -> str:
        """What another dictionary at this place has otherwise, or nothing; names do not count.

        >>> a = SourceRecord("m3", "mlp_out.3", ("mlp_out.3",), 256, "c0ffee")
        >>> a.difference(SourceRecord("m3", "mlp_in.3", ("mlp_out.3",), 256, "c0ffee"))
        'it reads mlp_in.3, and not mlp_out.3'
        """
        if other.reads != self.reads:
            return f"it reads {other.reads}, and not {self.reads}"
        if other.n_features != self.n_features:
            return f"it has {other.n_features:,} features, and not {self.n_features:,}"
        if other.fingerprint != self.fingerprint:
            return f"its weights are others (fingerprint {other.fingerprint}, {self.fingerprint})"
        return ""


def require_recorded(records: Sequence[SourceRecord], saes: Sequence[FeatureSource]) -> None:
    """Refuse dictionaries that are not those of which there are records.

    Raises:
        GraphError: with the first that differs, that lacks or that is one too many.
    """
    found = {tuple(site.name for site in sae.writes): sae for sae in saes}
    for record in records:
        sae = found.pop(record.writes, None)
        where = ", ".join(record.writes)
        if sae is None:
            raise GraphError(
                f"the graph was made with {record.name!r} ({record.n_features:,} features at "
                f"{where}), which is not among these dictionaries: give it too"
            )
        if said := record.difference(SourceRecord.of(sae)):
            raise GraphError(
                f"{sae!r} is not the dictionary at {where} that the graph was made with, "
                f"{record.name!r}: {said}"
            )
    if found:
        sae = next(iter(found.values()))
        raise GraphError(f"{sae!r} is none of the dictionaries that the graph was made with")
