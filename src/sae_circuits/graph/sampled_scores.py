"""Scores that keep what each example, or each batch, said of every edge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import GraphError, OptionError
from sae_circuits.graph.scores import Scores
from sae_circuits.graph.tensor_graph import TensorGraph

if TYPE_CHECKING:
    import pandas

CHUNK = 1 << 22  # numbers of resampled means that are held at a time


@dataclass(frozen=True, eq=False, kw_only=True)
class SampledScores(Scores):
    """Scores with those of each group of examples, of which they are the mean.

        s = sum_g n_g s_g / sum_g n_g

    Args:
        each: the scores in each group, which is an example or a batch.
        sizes: n_g, how many examples each group has.

    >>> import torch
    >>> from sae_circuits.graph import Architecture
    >>> graph = TensorGraph.from_model(Architecture("tiny", 1, 1, 1, 8, 4, 10, 16))
    >>> each = torch.tensor([[1.0, 2.0], [3.0, -2.0], [2.0, 3.0]]).repeat(1, 4)
    >>> scores = SampledScores.of(graph, each)
    >>> scores.values[:2].tolist(), scores.standard_error[:2].tolist()
    ([2.0, 1.0], [0.577..., 1.527...])
    >>> scores.drop_unstable(0.95).values[:2].tolist()
    [2.0, 0.0]
    """

    each: Float[Tensor, "group edge"]
    sizes: Int64[Tensor, "group"]

    def __post_init__(self) -> None:
        Scores.__post_init__(self)
        if self.each.shape != (len(self.sizes), self.graph.n_edges):
            raise GraphError(
                f"{tuple(self.each.shape)} scores of {len(self.sizes)} groups do not fit "
                f"{self.graph!r}: one row for each group, one column for each edge"
            )

    @classmethod
    def of(
        cls,
        graph: TensorGraph,
        each: Float[Tensor, "group edge"],
        sizes: Int64[Tensor, "group"] | None = None,
    ) -> SampledScores:
        """Scores that are the mean of those of groups, of one example each unless said."""
        sizes = torch.ones(len(each), dtype=torch.int64) if sizes is None else sizes
        weights = (sizes.double() / sizes.sum()).to(each.device)
        return cls(graph, (weights @ each.double()).to(each.dtype), each=each, sizes=sizes)

    # -- the same groups, other values -------------------------------------------------------------

    def __add__(self, other: Scores) -> Scores:
        """Add other scores; the groups are kept where both have the same of one task."""
        total = self.total + (other.total if isinstance(other, SampledScores) else other)
        if not isinstance(other, SampledScores) or not self._has_groups_of(other):
            return total
        each = self.each + other.each
        return replace(self, values=total.values, each=each)

    def __mul__(self, factor: float) -> SampledScores:
        return replace(self, values=self.values * factor, each=self.each * factor)

    __rmul__ = __mul__

    def on(self, graph: TensorGraph) -> SampledScores:
        """The same scores on a subgraph.

        Raises:
            GraphError: the subgraph has an edge without a score.
        """
        part = self.total.on(graph)
        ids = torch.tensor([self.graph.edge_id(edge) for edge in graph.edges], dtype=torch.int64)
        each = self.each[:, ids.to(self.each.device)]
        return replace(self, graph=graph, values=part.values, each=each)

    @property
    def total(self) -> Scores:
        """The scores without those of groups."""
        return Scores(self.graph, self.values, self.provenance)

    # -- how sure they are -------------------------------------------------------------------------

    @cached_property
    def standard_error(self) -> Float[Tensor, "edge"]:
        """The standard error of each edge's score over groups.

            se^2 = G / (G - 1) sum_g w_g^2 (s_g - s)^2,    w_g = n_g / sum_g n_g

        which is the usual s.d. / sqrt(G) for groups of one size.

        Raises:
            OptionError: there is one group alone.
        """
        groups = self._require_groups()
        weights = (self.sizes.double() / self.sizes.sum()).to(self.each.device)
        off = weights[:, None] * (self.each.double() - self.values.double())
        return (groups / (groups - 1) * off.square().sum(0)).sqrt().to(self.values.dtype)

    def bootstrap(self, n: int = 1000, *, seed: int = 0) -> Bootstrap:
        """Draw groups with replacement n times, as many as there are, and take each draw's mean.

        Raises:
            OptionError: there is one group alone, or n is below 1.
        """
        groups = self._require_groups()
        if n < 1:
            raise OptionError(f"n={n}: resample at least once")
        picks = torch.randint(groups, (n, groups), generator=torch.Generator().manual_seed(seed))
        weights = torch.zeros(n, groups, dtype=torch.float64)
        weights.scatter_add_(1, picks, self.sizes.cpu().double()[picks])
        return Bootstrap(self, weights / weights.sum(1, keepdim=True))

    def drop_unstable(self, share: float = 0.95, *, n: int = 1000, seed: int = 0) -> Scores:
        """The same scores, 0 where the sign is not that of the score in a share of resamples.

        Args:
            share: above 0, at most 1.
            n, seed: of the bootstrap.

        Raises:
            OptionError: a share that is none; one group alone; n below 1.

        Reference: Nikankin et al. 2025, arXiv 2510.25786 (there: bootstrapped filtering).
        """
        if not 0 < share <= 1:
            raise OptionError(f"a share of {share!r} of the resamples: above 0, at most 1")
        stable = self.bootstrap(n, seed=seed).sign_share >= share
        made = self.provenance
        options = {**made.options, "drop_unstable": {"share": share, "n": n, "seed": seed}}
        return Scores(self.graph, self.values.where(stable, 0.0), replace(made, options=options))

    def to_pandas(self, *, level: float = 0.95, n: int = 1000, seed: int = 0) -> pandas.DataFrame:
        """The table of `Scores`, with columns `standard_error`, `low`, `high` and `sign_share`.

        Args:
            level: of the bootstrap's interval from `low` to `high`.
            n, seed: of the bootstrap.
        """
        drawn = self.bootstrap(n, seed=seed)
        low, high = drawn.interval(level)
        columns = {"low": low, "high": high, "sign_share": drawn.sign_share}
        columns = {"standard_error": self.standard_error, **columns}
        table = self.total.to_pandas()
        return table.assign(**{name: x.cpu().numpy() for name, x in columns.items()})

    def _require_groups(self) -> int:
        if len(self.sizes) < 2:
            raise OptionError(
                f"one group of {int(self.sizes.sum())} examples alone says nothing of how scores "
                'vary: attribute with keep="example", or in more batches'
            )
        return len(self.sizes)

    def _has_groups_of(self, other: SampledScores) -> bool:
        same_task = self.provenance.task_id == other.provenance.task_id
        return same_task and torch.equal(self.sizes.cpu(), other.sizes.cpu())

    def __repr__(self) -> str:
        return f"Sampled{Scores.__repr__(self)[:-1]}, {len(self.sizes):,} groups)"


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Scores over resampled groups; means are made a chunk of edges at a time, and not kept.

    Args:
        scores: those that are resampled.
        weights: how much each group counts in each resample; rows sum to 1.

    Reference: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """

    scores: SampledScores
    weights: Float[Tensor, "resample group"]

    def means(self) -> Iterator[Float[Tensor, "resample some"]]:
        """The resampled scores, chunk by chunk along the edges."""
        each = self.scores.each
        weights = self.weights.to(each.device)
        for some in each.split(max(1, CHUNK // len(weights)), 1):
            yield weights @ some.double()

    def interval(self, level: float = 0.95) -> tuple[Float[Tensor, "edge"], Float[Tensor, "edge"]]:
        """The ends of each edge's percentile interval.

        Args:
            level: the share of the resampled scores that lies inside.

        Raises:
            OptionError: a level that is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise OptionError(f"level={level!r}: between 0 and 1")
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        found = [means.quantile(ends.to(means.device), 0) for means in self.means()]
        low, high = torch.cat(found, 1).to(self.scores.values.dtype)
        return low, high

    @cached_property
    def sign_share(self) -> Float[Tensor, "edge"]:
        """In which share of the resamples each score has the sign that it has over all groups."""
        signs = self.scores.values.sign().split(max(1, CHUNK // len(self.weights)))
        found = [
            (means.sign() == sign).double().mean(0)
            for means, sign in zip(self.means(), signs, strict=True)
        ]
        return torch.cat(found)
