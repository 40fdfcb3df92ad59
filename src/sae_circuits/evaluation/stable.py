"""`stability`: what a method finds on other prompts, and under another corruption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits import prune
from sae_circuits.attribution import Method, attribute
from sae_circuits.errors import GraphError, OptionError
from sae_circuits.evaluation.measures import percentiles
from sae_circuits.evaluation.per_example import Intervening
from sae_circuits.evaluation.ranking import NAN
from sae_circuits.graph import SampledScores, Scores, TensorGraph
from sae_circuits.graph.ranks import ranks
from sae_circuits.metrics import Metric, logit_diff
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task


@dataclass(frozen=True, eq=False)
class Stability:
    """Scores on resampled prompts, and how far they agree.

    Args:
        scores: on all prompts of the task, and on each.
        resamples: on each bootstrap sample of the prompts.
        n: how many edges a circuit of each has.
        by: how edges are ranked for it (see `prune.top_n`).
        other, other_resamples: the same on another task, where one was given.
    """

    scores: SampledScores
    resamples: Float[Tensor, "resample edge"]
    n: int
    by: str = "abs"
    other: SampledScores | None = None
    other_resamples: Float[Tensor, "resample edge"] | None = None

    @property
    def spearman(self) -> float:
        """The rank correlation of the scores of two samples, in the mean over pairs of samples."""
        return _mean(_pairs(_correlations(self._ranks, self._ranks)))

    @property
    def jaccard(self) -> float:
        """The share of edges in both of two samples' circuits, of those in either: the overlap."""
        return _mean(_pairs(_jaccards(self._circuits, self._circuits)))

    @property
    def spearman_other(self) -> float:
        """The rank correlation of scores on a sample of either task; NaN without another task."""
        return _mean(self._across("spearman"))

    @property
    def jaccard_other(self) -> float:
        """The overlap of circuits on a sample of either task; NaN without another task."""
        return _mean(self._across("jaccard"))

    @property
    def chosen(self) -> Scores:
        """For each edge, the share of the samples in whose circuit it is."""
        return self._with(self._circuits.mean(0))

    def interval(
        self, statistic: str | Callable[[Scores], float], *, level: float = 0.95
    ) -> tuple[float, float]:
        """The ends of the middle share of what the samples give.

        Args:
            statistic: "spearman" or "jaccard", over pairs of samples; "spearman_other" or
                "jaccard_other", over pairs of a sample of either task; or a function of scores,
                such as `lambda scores: sc.against(scores, circuit).auroc`.
            level: the share.

        Raises:
            OptionError: another name.
        """
        if callable(statistic):
            each = [statistic(self._with(values)) for values in self.resamples]
            return percentiles(torch.tensor(each, dtype=torch.float64), level=level)
        found = {
            "spearman": lambda: _pairs(_correlations(self._ranks, self._ranks)),
            "jaccard": lambda: _pairs(_jaccards(self._circuits, self._circuits)),
            "spearman_other": lambda: self._across("spearman"),
            "jaccard_other": lambda: self._across("jaccard"),
        }
        if statistic not in found:
            names = ", ".join(map(repr, found))
            raise OptionError(
                f"no interval of {statistic!r}: give a function of scores, or {names}"
            )
        return percentiles(found[statistic](), level=level)

    @property
    def _ranks(self) -> Float[Tensor, "resample edge"]:
        return torch.stack([ranks(values) for values in self.resamples])

    @property
    def _circuits(self) -> Float[Tensor, "resample edge"]:
        return self._top(self.resamples)

    def _top(self, rows: Float[Tensor, "resample edge"]) -> Float[Tensor, "resample edge"]:
        every = (prune.top_n(self._with(values), self.n, by=self.by) for values in rows)
        return torch.stack([circuit.mask for circuit in every]).double()

    def _with(self, values: Float[Tensor, "edge"]) -> Scores:
        return replace(self.scores.total, values=values)

    def _across(self, name: str) -> Float[Tensor, "pair"]:
        """What a sample of one task and one of the other give, for each pair of them."""
        if self.other_resamples is None:
            return torch.full((1,), NAN, dtype=torch.float64)
        if name == "jaccard":
            return _jaccards(self._circuits, self._top(self.other_resamples)).flatten()
        others = torch.stack([ranks(values) for values in self.other_resamples])
        return _correlations(self._ranks, others).flatten()

    def __repr__(self) -> str:
        said = [f"Spearman {self._said('spearman')}", f"overlap@{self.n} {self._said('jaccard')}"]
        if self.other is not None:
            where = repr(self.other.provenance.task or "another task")
            said += [f"with {where}: Spearman {self._said('spearman_other')}"]
            said += [f"overlap@{self.n} {self._said('jaccard_other')}"]
        return f"Stability({len(self.resamples)} samples; {', '.join(said)}; {self.scores!r})"

    def _said(self, name: str) -> str:
        low, high = self.interval(name)
        return f"{getattr(self, name):.3f} [{low:.3f}, {high:.3f}]"


def stability(
    model: Any,
    graph: TensorGraph,
    task: Task,
    *,
    other: Task | None = None,
    metric: str | Metric = logit_diff,
    method: str | Method = "eap-ig",
    n: int | None = None,
    by: str = "abs",
    n_resamples: int = 20,
    intervention: Intervening = "corrupt",
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    **options: Any,
) -> Stability:
    """How far a method finds the same on other prompts of the same kind, or otherwise corrupted.

    The prompts are drawn with replacement, as many as there are; scores are means over prompts, so
    that all samples come from one attribution. Pairs of samples stand for pairs of sets of prompts:
    what two samples of different tasks agree on has to be read beside what two samples of one do.

    Args:
        other: a task to compare with, such as the same prompts under another corruption; its
            samples are drawn apart.
        n: how many edges the circuits have that are compared; by default a tenth of the graph's.
        by: how edges are ranked for them (see `prune.top_n`).
        n_resamples: how many samples to draw, at least 2.
        seed: of the samples, and that of `attribute`.
        model, graph, task, metric, method, intervention, batch_size, memory, options: as in
            `attribute`.

    Raises:
        OptionError: fewer than 2 samples.
        GraphError: n below 1 or above the number of edges.
        CircuitsError: whatever `attribute` raises.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task, graph = sc.tasks.ioi(model, n=16, seed=0), sc.TensorGraph.from_model(model)
        >>> found = sc.stability(model, graph, task, method="eap", n=20, n_resamples=3)
        >>> found.spearman < 1, found.interval("jaccard")[0] > 0.5
        (True, True)
        >>> low, high = found.interval(lambda scores: scores["m0->logits"])

    Reference: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 6.
    """
    n = max(1, graph.n_edges // 10) if n is None else n
    if n_resamples < 2:
        raise OptionError(f"{n_resamples} samples: give 2 or more, to compare them with each other")
    if not 1 <= n <= graph.n_edges:
        raise GraphError(f"circuits of {n:,} edges: give n from 1 to {graph.n_edges:,}: {graph!r}")

    how: dict[str, Any] = {"metric": metric, "method": method, "intervention": intervention}
    how |= {"batch_size": batch_size, "memory": memory, "seed": seed, **options}
    scores = attribute(model, graph, task, keep="example", **how)
    others = None if other is None else attribute(model, graph, other, keep="example", **how)
    return Stability(
        scores=scores,
        resamples=_resampled(scores, n_resamples, seed),
        n=n,
        by=by,
        other=others,
        other_resamples=None if others is None else _resampled(others, n_resamples, seed + 1),
    )


def _resampled(scores: SampledScores, n: int, seed: int) -> Float[Tensor, "resample edge"]:
    return torch.cat([part.cpu() for part in scores.bootstrap(n, seed=seed).means()], 1)


def _pairs(table: Float[Tensor, "resample resample"]) -> Float[Tensor, "pair"]:
    """The part above the diagonal."""
    above = torch.triu_indices(*table.shape, offset=1)
    return table[above[0], above[1]]


def _correlations(
    x: Float[Tensor, "resample edge"], y: Float[Tensor, "another edge"]
) -> Float[Tensor, "resample another"]:
    """The correlation of each row of x with each of y."""
    x, y = (v - v.mean(1, keepdim=True) for v in (x, y))
    return (x @ y.T) / (x.norm(dim=1)[:, None] * y.norm(dim=1))


def _jaccards(
    x: Float[Tensor, "resample edge"], y: Float[Tensor, "another edge"]
) -> Float[Tensor, "resample another"]:
    """What each row of x shares with each of y, both of 0 and 1."""
    shared = x @ y.T
    return shared / (x.sum(1)[:, None] + y.sum(1) - shared)


def _mean(values: Float[Tensor, "pair"]) -> float:
    return float(values.mean())
