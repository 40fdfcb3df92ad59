"""How well methods find known circuits, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from sae_circuits.attribution import Method
from sae_circuits.attribution.methods import METHODS
from sae_circuits.attribution.run import find_method
from sae_circuits.evaluation import against, bootstrap
from sae_circuits.graph.scores import Scores
from sae_circuits.progress import track
from sae_circuits.testing.registry import truth
from sae_circuits.testing.registry import truths as every_truth

Measure = Literal["auroc", "auprc"]
ROUNDING = 1e-12  # of the largest score; there is nothing between this and real effects


@dataclass(frozen=True)
class Row:
    """What a method makes of a model with a known circuit, a value for each seed."""

    method: str
    truth: str
    auroc: tuple[float, ...]
    auprc: tuple[float, ...]

    def mean(self, measure: Measure = "auroc") -> float:
        """The mean over seeds."""
        values = getattr(self, measure)
        return sum(values) / len(values)

    def interval(self, measure: Measure = "auroc") -> tuple[float, float]:
        """The 95% interval of the mean, by bootstrap over seeds."""
        values = torch.tensor(getattr(self, measure), dtype=torch.float64)
        return bootstrap(values[:, None], lambda means: means[:, 0])


@dataclass(frozen=True)
class Table:
    """Methods by models with known circuits.

    Args:
        rows: one for each method and model, methods first.
        n_seeds: how many models and tasks of each kind.
        eps: how strongly what is outside the circuits writes to the output.
    """

    rows: tuple[Row, ...]
    n_seeds: int
    eps: float

    def __getitem__(self, cell: tuple[str, str]) -> Row:
        """The row of a method and a model.

        Raises:
            KeyError: the table has no such cell.
        """
        return {(row.method, row.truth): row for row in self.rows}[cell]

    def markdown(self, measure: Measure = "auroc") -> str:
        """A line for each method, a column for each model: mean, and interval where it is wide."""
        columns = list(dict.fromkeys(row.truth for row in self.rows))
        lines = [["", *columns], ["---"] * (1 + len(columns))]
        for method in dict.fromkeys(row.method for row in self.rows):
            lines.append([method, *(_cell(self[method, name], measure) for name in columns)])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def __str__(self) -> str:
        return self.markdown()


def _cell(row: Row, measure: Measure) -> str:
    low, high = (f"{end:.2f}" for end in row.interval(measure))
    return f"{row.mean(measure):.2f}" + (f" ({low} to {high})" if low != high else "")


def table(
    methods: Sequence[str | Method] | None = None,
    truths: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 5,
    *,
    eps: float = 0.05,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Table:
    """How well methods rank the true edges of models with known circuits above all others.

    Edges are ranked by the size of their scores; what is rounding alone counts as 0, so that a
    table is the same on every machine. Each seed makes other weights outside the circuit and other
    prompts, and is the method's seed too.

    Args:
        methods: methods, or their names; by default all.
        truths: names of models with known circuits; by default all.
        seeds: which, or how many from 0 on.
        eps: how strongly what is outside the circuits writes to the output. At 0 no other edge has
            any effect, and a method is only asked which effects it misses.
        options: of methods, by name.

    Raises:
        UnknownName: no such method, model or option.

    Example:
        >>> from sae_circuits.testing import table
        >>> found = table(["exact", "eap-ig"], ["or"], seeds=2, eps=0)
        >>> print(found)
        |  | or |
        | --- | --- |
        | exact | 0.60 |
        | eap-ig | 1.00 |
    """
    every = [find_method(name) for name in (METHODS if methods is None else methods)]
    names = every_truth() if truths is None else tuple(truths)
    which = range(seeds) if isinstance(seeds, int) else seeds
    found: dict[tuple[str, str], list[tuple[float, float]]] = {
        (method.name, name): [] for method in every for name in names
    }
    cells = [(name, seed) for name in names for seed in which]
    for name, seed in track(cells, description="known circuits"):
        known = truth(name, eps=eps, seed=seed)
        for method in every:
            settings = (options or {}).get(method.name, {})
            scores = known.scores(method, seed=seed, **settings)
            ranked = against(_above_rounding(scores), known.circuit)
            found[method.name, name].append((ranked.auroc, ranked.auprc))
    rows = (Row(*cell, *zip(*values, strict=True)) for cell, values in found.items())
    return Table(tuple(rows), len(which), eps)


def _above_rounding(scores: Scores) -> Scores:
    """The same scores, with 0 where they differ from it by rounding in float64 alone."""
    values = scores.values
    least = ROUNDING * values.abs().amax()
    return replace(scores, values=torch.where(values.abs() < least, 0, values))
