"""`minimality`: what each edge of a circuit is worth to it, by removing it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.errors import GraphError
from sae_circuits.evaluation.curves import made_by
from sae_circuits.evaluation.measures import (
    NOISE,
    percentiles,
    recovered_each,
    resampled_means,
)
from sae_circuits.evaluation.per_example import Intervening, measure, provenance, require_gap
from sae_circuits.graph import Circuit, Edge, Provenance
from sae_circuits.graph.given import require_circuit
from sae_circuits.graph.out import Saved
from sae_circuits.metrics import Metric, get, logit_diff
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Minimality(Saved):
    """What a circuit loses when one of its edges is removed, the least useful edges first.

    Args:
        of: the circuit.
        ids: of its edges, from what is lost least to what is lost most.
        change: the change of the metric, in its own unit: negative where the edge helps, as in
            scores.
        lost: the faithfulness that is lost with the edge, as a share of the clean-to-corrupt gap.
        change_interval, lost_interval: the ends of the 95% bootstrap intervals over examples.
        faithfulness: of the circuit itself.
        provenance: of the circuit's scores, with metric, task and seed of this measure.
    """

    of: Circuit
    ids: Int64[Tensor, "edge"]
    change: Float[Tensor, "edge"]
    lost: Float[Tensor, "edge"]
    change_interval: Float[Tensor, "edge 2"]
    lost_interval: Float[Tensor, "edge 2"]
    faithfulness: float
    provenance: Provenance = field(default_factory=Provenance)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, edge: Edge | str) -> float:
        """The faithfulness that is lost with an edge.

        Raises:
            GraphError: the circuit has no such edge.
        """
        found = (self.ids == self.of.graph.edge_id(edge)).nonzero()
        if not len(found):
            raise GraphError(f"{str(edge)!r} is not in {self.of!r}, so it cannot be removed")
        return float(self.lost[found[0, 0]])

    def least(self, n: int) -> list[tuple[str, float]]:
        """The names of the n least useful edges, with the faithfulness that is lost with each."""
        ids = self.ids[:n].tolist()
        names = [self.of.graph.edges[i].name for i in ids]
        return list(zip(names, self.lost[:n].tolist(), strict=True))

    @property
    def needed(self) -> Circuit:
        """The edges with which faithfulness is lost for sure: the interval lies above 0 (1e-6)."""
        mask = torch.zeros_like(self.of.mask)
        mask[self.ids[self.lost_interval[:, 0] > NOISE].to(mask.device)] = True
        return self.of.with_mask(mask)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row per edge, the least useful first.

        Its columns are `src`, `dest`, `change`, `change_low`, `change_high`, `lost`, `lost_low`
        and `lost_high`.
        """
        from sae_circuits.graph.tables import edges_table

        table = edges_table(self.of.graph, self.ids, self.change).rename(
            {"score": "change"}, axis=1
        )
        columns = {
            "change_low": self.change_interval[:, 0],
            "change_high": self.change_interval[:, 1],
            "lost": self.lost,
            "lost_low": self.lost_interval[:, 0],
            "lost_high": self.lost_interval[:, 1],
        }
        table = table.rename({"score": "change"}, axis=1)
        return table.assign(**{name: values.numpy() for name, values in columns.items()})

    def __repr__(self) -> str:
        least = ", ".join(f"{name} {lost:+.3f}" for name, lost in self.least(3))
        return (
            f"Minimality({len(self.needed):,} of {len(self):,} edges needed for sure; least "
            f"useful: {least or 'none'}; {made_by(self.provenance)})"
        )


def minimality(
    model: Any,
    circuit: Circuit,
    task: Task,
    *,
    metric: str | Metric = logit_diff,
    intervention: Intervening = "corrupt",
    direction: str = "noising",
    batch_size: int | None = None,
    memory: Memory | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> Minimality:
    """What is lost when one edge of a circuit is removed from it, for each of its edges.

        change(e) = m(C without e) - m(C)
        lost(e)   = f(C) - f(C without e) = -change(e) / (m(all) - m(none))

    Every edge costs one run of the circuit; all share one replacement run. A circuit is minimal
    where every edge loses something. Two edges that do the same job lose nothing one by one.

    Args:
        n_bootstrap: how often the examples are resampled for the 95% intervals; the same examples
            with and without the edge.
        model, circuit, task, metric, intervention, direction, batch_size, memory, seed: as in
            `evaluate`.

    Raises:
        GraphError: a circuit without edges, or of another model's graph.
        MetricError, NumericalError: as in `evaluate`.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> graph = sc.TensorGraph.from_model(model)
        >>> circuit = sc.Circuit.from_nodes(graph, ["a1.h2", "a2.h0"])
        >>> found = sc.minimality(model, circuit, task)
        >>> len(found), len(found.needed) < len(found), found["input->logits"]
        (12, True, 0.0)

    Reference: Wang et al. 2022, arXiv 2211.00593 (of nodes, within sets of nodes).
    """
    require_circuit(circuit)
    if not len(circuit):
        raise GraphError(f"{circuit!r} has no edges, so there are none to remove")
    metric = get(metric)
    ids = circuit.mask.nonzero()[:, 0].cpu()
    measured = measure(
        model,
        OneLess(circuit, ids),
        task,
        metric,
        intervention=intervention,
        direction=direction,
        batch_size=batch_size,
        memory=memory,
        seed=seed,
    ).double()
    none, whole, clean = measured[0, :, 0], measured[1, :, 0], measured[0, :, 2]
    require_gap(clean, none, metric)
    change = measured[2:, :, 0] - whole
    gap = float(clean.mean() - none.mean())
    means = resampled_means(
        torch.cat([change, (clean - none)[None]]).T, n_resamples=n_bootstrap, seed=seed
    )
    gaps = means[:, -1:].expand_as(means[:, :-1])
    lost = recovered_each(-means[:, :-1], gaps, torch.zeros_like(gaps))
    order = (-change.mean(1) / gap).sort(stable=True).indices
    return Minimality(
        of=circuit,
        ids=ids[order],
        change=change.mean(1)[order],
        lost=-change.mean(1)[order] / gap + 0.0,
        change_interval=_ends(means[:, :-1])[order],
        lost_interval=_ends(lost)[order],
        faithfulness=float((whole - none).mean()) / gap,
        provenance=provenance(
            model, circuit.scores, task, metric, intervention, seed, direction=direction
        ),
    )


def _ends(found: Float[Tensor, "resample edge"]) -> Float[Tensor, "edge 2"]:
    ends = [percentiles(column) for column in found.unbind(1)]
    return torch.tensor(ends, dtype=torch.float64) + 0.0


class OneLess(Sequence[Circuit]):
    """The empty circuit, a circuit, and it without each of its edges, made when they are asked for.

    So that a circuit of many edges in a large graph is not held once for each of them.
    """

    def __init__(self, circuit: Circuit, ids: Int64[Tensor, "edge"]) -> None:
        self.circuit = circuit
        self.ids = ids

    def __len__(self) -> int:
        return 2 + len(self.ids)

    @overload
    def __getitem__(self, i: int) -> Circuit: ...
    @overload
    def __getitem__(self, i: slice) -> list[Circuit]: ...
    def __getitem__(self, i: int | slice) -> Circuit | list[Circuit]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not 0 <= i < len(self):
            raise IndexError(f"circuit {i} of {len(self)}")
        if i == 0:
            return Circuit.empty(self.circuit.graph)
        mask = self.circuit.mask.clone()
        if i > 1:
            mask[self.ids[i - 2]] = False
        return self.circuit.with_mask(mask)
