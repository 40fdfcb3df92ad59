"""Clusters of features, as a frozen value: who is in which, how stable, and what each does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import GraphError, OptionError, UnknownName, unknown
from sae_circuits.graph.out import Saved
from sae_circuits.graph.scores import Provenance

if TYPE_CHECKING:
    import pandas

TABLES = ("clusters", "features", "weights")
UNCLUSTERED, ELSEWHERE = "unclustered", "elsewhere"


@dataclass(frozen=True, eq=False)
class Clusters(Saved):
    """Features in clusters, the largest first: `c0`, `c1` and so on.

    Groups are the clusters and, after them, the features in none; ends are these and, at last, all
    features that were not asked for.

    Args:
        names: of all features that were clustered, such as "m3.f17".
        member_of: the number of each one's cluster, -1 for none.
        typicality: each one's mean likeness to the others of its cluster; 0 for those in none.
        stability: of each cluster, from 0 to 1: see `cluster`; NaN where none was asked for.
        common: what its features have in common, in words; "" where nothing is said.
        common_shares: the share of its features that have this, among those of which something is
            said; NaN where nothing is.
        neighbours: of the likeness of a row's features to their neighbours, the share that is to
            the column's. Rows sum to 1, or are 0.
        weights: the sums of scores from each end (rows) to each; None where none were given.
        sizes: the same of the scores' sizes.
        by: in what features are alike.
        method: how clusters were found.
        provenance: options, and the seed.

    >>> import sae_circuits as sc
    >>> (sae,) = sc.load_saes("demo", ["resid_post.1"])
    >>> found = sc.cluster(sae, "decoder", repeats=2)
    >>> len(found.members(0)) >= len(found.members(1)), found.typical(0, 3) == found.members(0)[:3]
    (True, True)
    """

    names: tuple[str, ...]
    member_of: Int64[Tensor, "feature"]
    typicality: Float[Tensor, "feature"]
    stability: Float[Tensor, "cluster"]
    common: tuple[str, ...]
    common_shares: Float[Tensor, "cluster"]
    neighbours: Float[Tensor, "group group"]
    weights: Float[Tensor, "end end"] | None
    sizes: Float[Tensor, "end end"] | None
    by: str
    method: str
    provenance: Provenance = field(default_factory=Provenance)

    def __len__(self) -> int:
        return len(self.stability)

    def __getitem__(self, name: str) -> int | None:
        """The number of a feature's cluster, by the feature's name; None where it is in none.

        Raises:
            UnknownName: a feature that was not clustered.
        """
        if name not in self._places:
            raise unknown("feature", name, self.names)
        number = int(self.member_of[self._places[name]])
        return None if number < 0 else number

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    # -- who is in it ----------------------------------------------------------------------------

    def members(self, cluster: int) -> list[str]:
        """The features of a cluster, the most typical first, ties in the order of the features.

        Raises:
            UnknownName: no such cluster.
        """
        self._require(cluster)
        places = (self.member_of == cluster).nonzero()[:, 0]
        order = self.typicality[places].sort(descending=True, stable=True).indices
        return [self.names[i] for i in places[order].tolist()]

    def typical(self, cluster: int, n: int = 5) -> list[str]:
        """The n most typical features of a cluster: those most like its others, in the mean.

        Raises:
            UnknownName: no such cluster.
        """
        return self.members(cluster)[:n]

    @property
    def unclustered(self) -> list[str]:
        """The features in no cluster."""
        return [self.names[i] for i in (self.member_of < 0).nonzero()[:, 0].tolist()]

    # -- as supernodes ---------------------------------------------------------------------------

    def groups(self, clusters: Iterable[int] | None = None) -> dict[str, list[str]]:
        """Clusters as groups of nodes for a picture: `circuit.render(path, groups=found.groups())`.

        Args:
            clusters: some of them; by default all.

        Raises:
            UnknownName: no such cluster.
        """
        every = range(len(self)) if clusters is None else clusters
        return {f"c{i}": self.members(i) for i in every}

    @property
    def labels(self) -> dict[str, str]:
        """What a cluster's features have in common, by the cluster's name, for a picture."""
        return {f"c{i}": text for i, text in enumerate(self.common) if text}

    # -- what it does ----------------------------------------------------------------------------

    @property
    def ends(self) -> tuple[str, ...]:
        """The names of the rows and columns of `weights`."""
        return (*(f"c{i}" for i in range(len(self))), UNCLUSTERED, ELSEWHERE)

    def shares(self, side: str) -> Float[Tensor, "group"]:
        """Of all weight into these features ("in") or out of them ("out"), the share of each group.

        A weight is the size of a score. Shares sum to 1, the last being that of the features in no
        cluster; where there is no weight on that side at all, they are 0.

        Raises:
            UnknownName: another side.
            OptionError: no scores were given.
        """
        if side not in ("in", "out"):
            raise unknown("side", side, ("in", "out"))
        if self.sizes is None:
            raise OptionError("there are no weights: give cluster(...) scores=")
        sums = self.sizes.sum(0 if side == "in" else 1)[:-1]
        total = sums.sum()
        return sums / total if total > 0 else sums

    # -- tables and files ------------------------------------------------------------------------

    def to_pandas(self, table: str = "clusters") -> pandas.DataFrame:
        """As a table.

        Args:
            table: "clusters", one row for each, "features", one for each, or "weights", one for
                each pair of ends with a weight between them.

        Raises:
            UnknownName: another table.
            OptionError: "weights", and no scores were given.
        """
        from sae_circuits.graph.tables import columns_table

        if table not in TABLES:
            raise unknown("table", table, TABLES)
        if table == "features":
            own = [f"c{i}" if i >= 0 else UNCLUSTERED for i in self.member_of.tolist()]
            typical = self.typicality.tolist()
            return columns_table({"feature": self.names, "cluster": own, "typicality": typical})
        if table == "weights":
            return columns_table(self._weights_columns())
        numbers = range(len(self))
        columns = {
            "cluster": [f"c{i}" for i in numbers],
            "features": [int((self.member_of == i).sum()) for i in numbers],
            "stability": self.stability.tolist(),
            "label": list(self.common),
            "label_share": self.common_shares.tolist(),
            "typical": [" ".join(self.typical(i)) for i in numbers],
        }
        if self.sizes is not None:
            columns |= {f"{side}_share": self.shares(side)[:-1].tolist() for side in ("in", "out")}
        return columns_table(columns)

    def _weights_columns(self) -> dict[str, list[str] | list[float]]:
        if self.weights is None or self.sizes is None:
            raise OptionError("there are no weights: give cluster(...) scores=")
        source, target = self.sizes.nonzero(as_tuple=True)
        return {
            "source": [self.ends[i] for i in source.tolist()],
            "target": [self.ends[i] for i in target.tolist()],
            "weight": self.weights[source, target].tolist(),
            "size": self.sizes[source, target].tolist(),
        }

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.member_of) == len(self.typicality):
            raise GraphError(
                f"{len(self.names):,} features do not fit {len(self.member_of):,} memberships and "
                f"{len(self.typicality):,} typicalities"
            )

    def __repr__(self) -> str:
        inside = int((self.member_of >= 0).sum())
        stable = self.stability[~self.stability.isnan()]
        said = f", mean stability {float(stable.mean()):.2f}" if len(stable) else ""
        return (
            f"Clusters({self.method} by {self.by}: {len(self)} of {inside:,} of "
            f"{len(self.names):,} features{said})"
        )

    def _require(self, cluster: int) -> None:
        if not 0 <= cluster < len(self):
            there = f"0 to {len(self) - 1}" if len(self) else "there is none"
            raise UnknownName(f"no cluster {cluster}: {there}")
