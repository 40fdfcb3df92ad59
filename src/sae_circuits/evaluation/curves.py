"""Faithfulness over circuit sizes, as a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import unknown
from sae_circuits.evaluation.measures import cmd, cpr, recovered
from sae_circuits.graph import Provenance
from sae_circuits.graph.out import Saved


@dataclass(frozen=True, eq=False)
class Curve(Saved):
    """Faithfulness of the best circuits of growing size, beside random ones.

    Args:
        fractions: shares of the graph's edges, ascending.
        n_edges: how many edges each is, rounded down.
        values: the metric's mean on each circuit, in its own unit.
        random_values: the same for random circuits of the same sizes, one row per draw.
        clean, corrupt: the metric's mean on the whole model and on the empty circuit.
        by: how the edges were ranked: "abs", "help" or "hurt".
        provenance: of the scores, with the metric, the task and the seed of this evaluation.
        degrees_values: as `random_values`, for random circuits in which every node has as many
            edges in and out as in the circuit of that size.
        band: at each size, the ends of the 95% bootstrap interval of faithfulness over examples.
        intervals: by area, such as "cpr", the ends of its interval (see `interval`).
        examples: `values` [size, n], `clean` [n] and `corrupt` [n] for each example.
        weighted_edges: how many edges of the unsplit graph each circuit is worth (see
            `Circuit.weighted_edges`).
        pruner: the name of what chose the edges of each size, such as "top_n"; "" where that is not
            known.
    """

    fractions: tuple[float, ...]
    n_edges: tuple[int, ...]
    values: tuple[float, ...]
    random_values: tuple[tuple[float, ...], ...]
    clean: float
    corrupt: float
    by: str = "abs"
    provenance: Provenance = field(default_factory=Provenance)
    degrees_values: tuple[tuple[float, ...], ...] = ()
    band: tuple[tuple[float, float], ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    examples: Mapping[str, Float[Tensor, "*size n"]] = field(default_factory=dict)
    weighted_edges: tuple[float, ...] = ()
    pruner: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "intervals", MappingProxyType(dict(self.intervals)))
        object.__setattr__(self, "examples", MappingProxyType(dict(self.examples)))

    @property
    def faithfulness(self) -> tuple[float, ...]:
        """The share of the clean-to-corrupt gap that each circuit recovers."""
        return self._recovered(self.values)

    @property
    def random(self) -> tuple[tuple[float, ...], ...]:
        """The same for each random circuit of equal size, one row per draw."""
        return tuple(self._recovered(row) for row in self.random_values)

    @property
    def degrees(self) -> tuple[tuple[float, ...], ...]:
        """The same for each random circuit of equal degrees, one row per draw."""
        return tuple(self._recovered(row) for row in self.degrees_values)

    @property
    def cpr(self) -> float:
        """Area under the curve; as in the MIB benchmark where `by` is "help" (see `cpr`)."""
        return cpr(self.fractions, self.faithfulness)

    @property
    def cmd(self) -> float:
        """Area between the curve and 1; as in the MIB benchmark where `by` is "abs"."""
        return cmd(self.fractions, self.faithfulness)

    @property
    def cpr_from_zero(self) -> float:
        """Area under the curve from 0% on, where faithfulness is 0; not the benchmark's."""
        return cpr(self.fractions, self.faithfulness, from_zero=True)

    @property
    def cmd_from_zero(self) -> float:
        """Area between the curve and 1 from 0% on, where the distance is 1."""
        return cmd(self.fractions, self.faithfulness, from_zero=True)

    @property
    def random_cpr(self) -> float:
        """Mean area under the curves of random circuits of equal size; NaN where none is drawn."""
        return _mean([cpr(self.fractions, row) for row in self.random])

    @property
    def random_cmd(self) -> float:
        """Mean area between those curves and 1; NaN where none is drawn."""
        return _mean([cmd(self.fractions, row) for row in self.random])

    @property
    def degrees_cpr(self) -> float:
        """Mean area under the curves of random circuits of equal degrees; NaN where none is."""
        return _mean([cpr(self.fractions, row) for row in self.degrees])

    @property
    def degrees_cmd(self) -> float:
        """Mean area between those curves and 1; NaN where none is drawn."""
        return _mean([cmd(self.fractions, row) for row in self.degrees])

    def interval(self, name: str) -> tuple[float, float]:
        """The ends of an area's 95% bootstrap interval over examples.

        Args:
            name: "cpr", "cmd", "cpr_from_zero", "cmd_from_zero"; "random_cpr", "random_cmd",
                "degrees_cpr", "degrees_cmd" where such circuits were drawn.

        Raises:
            UnknownName: no such area, or a curve that was saved before there were intervals.
        """
        if name not in self.intervals:
            raise unknown("area with an interval", name, self.intervals)
        return self.intervals[name]

    def _recovered(self, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(recovered(v, clean=self.clean, corrupt=self.corrupt) for v in values)

    def __repr__(self) -> str:
        best = f"{self._area('cpr')}, {self._area('cmd')}"
        return (
            f"Curve({len(self.fractions)} sizes by {self.by!r}, {best}; {made_by(self.provenance)})"
        )

    def _area(self, name: str) -> str:
        found = self.intervals.get(name)
        said = "" if found is None else " [{:.3f}, {:.3f}]".format(*found)
        return f"{name.upper()} {getattr(self, name):.3f}{said}"


def made_by(made: Provenance) -> str:
    """The method, the task, the metric and the intervention, where known."""
    return ", ".join(x for x in (made.method, made.task, made.metric, made.intervention) if x)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
