"""The table of methods against tasks, as frozen values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import unknown
from sae_circuits.evaluation.curves import Curve
from sae_circuits.evaluation.measures import areas, percentiles, recovered_each, resampled_means
from sae_circuits.graph.out import Saved

if TYPE_CHECKING:
    import pandas

MEASURES = {
    "cpr": "area under the faithfulness curve, edges ranked by how much they help",
    "cmd": "area between the curve and 1, edges ranked by size; 0 is perfect",
    "auroc": "how often a true edge outranks another, where the circuit is known",
    "auprc": "mean precision over the true edges, where the circuit is known",
    "pearson": "correlation with exact patching, edge by edge",
    "spearman": "correlation of ranks with exact patching",
    "sign": "share of edges whose sign is exact patching's",
    "seconds": "wall time of the scores",
    "peak_mb": "memory at the peak above what was held before, in MB",
}
"""What a table holds of every method and subject, each a mean over seeds."""

LEAST = ("cmd", "seconds", "peak_mb")  # of which less is better
BY = {"cpr": "help", "cmd": "abs"}  # how the curve of each area ranks its edges


@dataclass(frozen=True, eq=False)
class Cell:
    """What a method did on one task of one model, at one level, for one seed.

    Args:
        measures: those of `MEASURES` that could be measured.
        n_edges: how many edges were scored.
        refused: why there are no scores, where the method is not defined here; else empty.
        curves: faithfulness over circuit sizes by "help" and by "abs".
    """

    model: str
    task: str
    level: str
    method: str
    seed: int
    measures: Mapping[str, float] = field(default_factory=dict)
    n_edges: int = 0
    refused: str = ""
    curves: Mapping[str, Curve] = field(default_factory=dict)


Place = tuple[str, str, str]  # model, task and level


@dataclass(frozen=True, eq=False)
class Benchmark(Saved):
    """Methods against tasks: what `sae_circuits.benchmark` found.

    Args:
        cells: one for each model, task, level, method and seed.
    """

    cells: tuple[Cell, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order in which they were run."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def places(self) -> tuple[Place, ...]:
        """The models with their tasks and levels, in the order in which they were run."""
        return tuple(dict.fromkeys((cell.model, cell.task, cell.level) for cell in self.cells))

    def of(self, method: str, place: Place) -> tuple[Cell, ...]:
        """The cells of a method at a place, one for each seed; none where it was not run."""
        return tuple(
            cell
            for cell in self.cells
            if cell.method == method and (cell.model, cell.task, cell.level) == place
        )

    def mean(self, measure: str, method: str, place: Place) -> float:
        """A measure's mean over seeds; NaN where it was not measured.

        Raises:
            UnknownName: no such measure.
        """
        if measure not in MEASURES:
            raise unknown("measure", measure, MEASURES)
        cells = self.of(method, place)
        found = [cell.measures[measure] for cell in cells if measure in cell.measures]
        return fmean(found) if found else float("nan")

    def interval(self, measure: str, method: str, place: Place) -> tuple[float, float]:
        """The 95% interval of a measure's mean over seeds; NaN where there is none.

        Of "cpr" and "cmd" over resampled examples, those of each seed among themselves and the
        mean over seeds taken each time; of the others over resampled seeds.
        """
        cells = [cell for cell in self.of(method, place) if measure in cell.measures]
        if not cells:
            return float("nan"), float("nan")
        if measure in BY:
            each = [_areas(cell.curves[BY[measure]], measure, cell.seed) for cell in cells]
            return percentiles(torch.stack(each).mean(0))
        values = torch.tensor([[cell.measures[measure]] for cell in cells], dtype=torch.float64)
        return percentiles(resampled_means(values)[:, 0])

    def refusals(self) -> dict[str, str]:
        """Why methods have no scores at some places, by method and place."""
        return {
            f"{cell.method} on {cell.task}, {cell.level}": cell.refused
            for cell in self.cells
            if cell.refused
        }

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each model, task, level and method, with means and ends of intervals."""
        from sae_circuits.graph.tables import rows_table

        return rows_table(list(self._rows()))

    def mib(self, measure: str = "cpr") -> pandas.DataFrame:
        """MIB's layout: a row for each method, a column for each task and model; means over seeds.

        Raises:
            UnknownName: no such measure.
        """
        from sae_circuits.graph.tables import rows_table

        rows = []
        for method in self.methods:
            row: dict[str, object] = {"method": method}
            row |= {title(p): self.mean(measure, method, p) for p in self.places}
            rows.append(row)
        return rows_table(rows)

    def best(self, measure: str, place: Place) -> str | None:
        """The method that does best; None where the measure was not measured."""
        found = {m: self.mean(measure, m, place) for m in self.methods}
        known = {m: value for m, value in found.items() if value == value}
        first = min if measure in LEAST else max
        return first(known, key=known.__getitem__) if known else None

    def _rows(self) -> Iterator[dict[str, object]]:
        for place in self.places:
            for method in self.methods:
                if cells := self.of(method, place):
                    row = dict(zip(("model", "task", "level"), place, strict=True))
                    yield {**row, "method": method, **self._numbers(method, place, cells)}

    def _numbers(self, method: str, place: Place, cells: Sequence[Cell]) -> dict[str, object]:
        found: dict[str, object] = {"seeds": len(cells), "n_edges": cells[0].n_edges}
        for measure in MEASURES:
            found[measure] = self.mean(measure, method, place)
            low, high = self.interval(measure, method, place)
            found |= {f"{measure}_low": low, f"{measure}_high": high}
        return found

    def __repr__(self) -> str:
        return f"Benchmark({len(self.methods)} methods, {len(self.places)} tasks and levels)"


def title(place: Place) -> str:
    """A place in a column's head.

    >>> title(("demo", "ioi", "edges")), title(("demo", "ioi", "nodes"))
    ('ioi (demo)', 'ioi (demo, nodes)')
    """
    model, task, level = place
    return f"{task} ({model})" if level == "edges" else f"{task} ({model}, {level})"


def _areas(curve: Curve, measure: str, seed: int) -> Float[Tensor, "resample"]:
    """CPR or CMD over resampled examples."""
    of = curve.examples
    table = torch.cat([of["values"], of["clean"][None], of["corrupt"][None]]).T
    means = resampled_means(table, seed=seed)
    clean, corrupt = (x[:, None].expand_as(means[:, :-2]) for x in (means[:, -2], means[:, -1]))
    found = areas(curve.fractions, recovered_each(means[:, :-2], clean, corrupt))
    return found[0 if measure == "cpr" else 1]
