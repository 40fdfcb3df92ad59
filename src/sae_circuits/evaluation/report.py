"""What an evaluation found, as frozen values: the report of one circuit, the curve of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import GraphError, unknown
from sae_circuits.evaluation.measures import cmd, cpr, recovered
from sae_circuits.graph import Circuit, Provenance, Scores, SpanCircuit, SpanScores


@dataclass(frozen=True, eq=False)
class Curve:
    """Faithfulness of the best circuits of growing size, beside random ones of the same sizes.

    Args:
        fractions: shares of the graph's edges, ascending.
        n_edges: how many edges each is, rounded down.
        values: the metric's mean on each circuit, in its own unit.
        random_values: the same for each random circuit, one row per draw.
        clean, corrupt: the metric's mean on the whole model and on the empty circuit.
        by: how the edges were ranked: "abs", "help" or "hurt".
        provenance: of the scores, with the metric, the task and the seed of this evaluation.
    """

    fractions: tuple[float, ...]
    n_edges: tuple[int, ...]
    values: tuple[float, ...]
    random_values: tuple[tuple[float, ...], ...]
    clean: float
    corrupt: float
    by: str = "abs"
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def faithfulness(self) -> tuple[float, ...]:
        """The share of the clean-to-corrupt gap that each circuit recovers."""
        return self._recovered(self.values)

    @property
    def random(self) -> tuple[tuple[float, ...], ...]:
        """The same for each random circuit, one row per draw."""
        return tuple(self._recovered(row) for row in self.random_values)

    @property
    def cpr(self) -> float:
        """Area under the curve; as in the MIB benchmark where `by` is "help" (see `cpr`)."""
        return cpr(self.fractions, self.faithfulness)

    @property
    def cmd(self) -> float:
        """Area between the curve and 1; as in the MIB benchmark where `by` is "abs"."""
        return cmd(self.fractions, self.faithfulness)

    @property
    def random_cpr(self) -> float:
        """Mean area under the random circuits' curves; NaN where none was drawn."""
        return _mean([cpr(self.fractions, row) for row in self.random])

    @property
    def random_cmd(self) -> float:
        """Mean area between the random circuits' curves and 1; NaN where none was drawn."""
        return _mean([cmd(self.fractions, row) for row in self.random])

    def save(self, path: str | Path) -> None:
        """Write to one JSON file; `sae_circuits.load` reads it back."""
        from sae_circuits.io import save

        save(self, path)

    def _recovered(self, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(recovered(v, clean=self.clean, corrupt=self.corrupt) for v in values)

    def __repr__(self) -> str:
        best = f"CPR {self.cpr:.3f}, CMD {self.cmd:.3f}"
        return (
            f"Curve({len(self.fractions)} sizes by {self.by!r}, {best}; {_made(self.provenance)})"
        )


MEASURES = (
    "faithfulness",
    "completeness",
    "clean",
    "corrupt",
    "circuit",
    "complement",
    "accuracy",
    "clean_accuracy",
    "corrupt_accuracy",
)
"""The names of a report's numbers, of its intervals, and of its values per example."""

ERRORS = (
    "faithfulness_errors_kept",
    "faithfulness_errors_removed",
    "errors_kept",
    "errors_removed",
)
"""Those that there are beside `MEASURES` where the graph has error nodes."""


@dataclass(frozen=True, eq=False)
class Report:
    """How well one circuit does what the whole model does.

    Every number is a mean over examples, but for the two ratios, which are ratios of means.

    Args:
        of: the circuit.
        examples: by measure, one value per example (see `MEASURES`); a ratio is NaN where the
            example has no gap of its own.
        intervals: by measure, the ends of its 95% bootstrap interval over examples.
        provenance: of the circuit's scores, with the metric, task and seed of this evaluation.
        curve: where one was made too.
    """

    of: Circuit | SpanCircuit
    examples: Mapping[str, Float[Tensor, "n"]]
    intervals: Mapping[str, tuple[float, float]]
    provenance: Provenance = field(default_factory=Provenance)
    curve: Curve | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", MappingProxyType(dict(self.examples)))
        object.__setattr__(self, "intervals", MappingProxyType(dict(self.intervals)))

    @property
    def faithfulness(self) -> float:
        """The share of the clean-to-corrupt gap that the circuit recovers."""
        return recovered(self.circuit, clean=self.clean, corrupt=self.corrupt)

    @property
    def completeness(self) -> float:
        """The same share for the complement: low where nothing outside the circuit matters."""
        return recovered(self.complement, clean=self.clean, corrupt=self.corrupt)

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of this report's numbers: `MEASURES`, and `ERRORS` if there are error nodes."""
        return MEASURES + ERRORS if "errors_removed" in self.examples else MEASURES

    @property
    def faithfulness_errors_kept(self) -> float:
        """Faithfulness when every edge into and out of an error node is in as well."""
        return self._of_errors("errors_kept")

    @property
    def faithfulness_errors_removed(self) -> float:
        """Faithfulness when no edge into or out of an error node is in: of the features alone."""
        return self._of_errors("errors_removed")

    @property
    def errors_kept(self) -> float:
        """The metric when every edge into and out of an error node is in as well."""
        return self._errors("errors_kept")

    @property
    def errors_removed(self) -> float:
        """The metric when no edge into or out of an error node is in."""
        return self._errors("errors_removed")

    @property
    def error_share(self) -> float:
        """The share of what the circuit recovers that is lost without its error nodes.

            1 - (m(C without errors) - m(none)) / (m(C) - m(none))

        Raises:
            MetricError: the circuit recovers nothing, so that there is nothing to share out.
        """
        removed, circuit = self._errors("errors_removed"), self.circuit
        return 1 - recovered(removed, clean=circuit, corrupt=self.corrupt)

    @property
    def clean(self) -> float:
        """The metric on the whole model."""
        return self._mean("clean")

    @property
    def corrupt(self) -> float:
        """The metric on the empty circuit: every edge carries what the intervention gives."""
        return self._mean("corrupt")

    @property
    def circuit(self) -> float:
        """The metric on the circuit."""
        return self._mean("circuit")

    @property
    def complement(self) -> float:
        """The metric on the circuit of all other edges."""
        return self._mean("complement")

    @property
    def accuracy(self) -> float:
        """The share of examples that the circuit answers right."""
        return self._mean("accuracy")

    @property
    def clean_accuracy(self) -> float:
        """The share of examples that the whole model answers right."""
        return self._mean("clean_accuracy")

    @property
    def corrupt_accuracy(self) -> float:
        """The share of examples that the empty circuit answers right."""
        return self._mean("corrupt_accuracy")

    @property
    def n_edges(self) -> int:
        """How many edges the circuit has, each counted for every span of a circuit by span."""
        return len(self.of)

    @property
    def fraction(self) -> float:
        """The share of the graph's edges that the circuit has."""
        return self.of.fraction

    @property
    def scores(self) -> Scores | SpanScores[Scores] | None:
        """The scores that the circuit was made of, where known."""
        return self.of.scores

    def interval(self, name: str) -> tuple[float, float]:
        """The ends of a measure's 95% bootstrap interval over examples.

        Raises:
            UnknownName: no such measure.
        """
        if name not in self.intervals:
            raise unknown("measure", name, self.intervals)
        return self.intervals[name]

    def with_curve(self, curve: Curve) -> Report:
        """The same report with a curve in it."""
        return replace(self, curve=curve)

    def save(self, folder: str | Path) -> Path:
        """Write the report, its circuit, scores, pictures and a page that shows them to a folder.

        Raises:
            OutputError: the folder holds something already, or cannot be written.
        """
        from sae_circuits.viz import save_report

        return save_report(self, folder)

    def _of_errors(self, name: str) -> float:
        return recovered(self._errors(name), clean=self.clean, corrupt=self.corrupt)

    def _errors(self, name: str) -> float:
        if name not in self.examples:
            raise GraphError(f"{self.of!r} has no error nodes: they come with saes=[...]")
        return self._mean(name)

    def _mean(self, name: str) -> float:
        return float(self.examples[name].double().mean())

    def __repr__(self) -> str:
        low, high = self.interval("faithfulness")
        interval = f"[{low:.3f}, {high:.3f}]"
        if "errors_removed" in self.examples:
            interval += f", {self.faithfulness_errors_removed:.3f} without error nodes"
        return (
            f"Report(faithfulness {self.faithfulness:.3f} {interval}, completeness "
            f"{self.completeness:.3f}, {self.n_edges:,} edges ({100 * self.fraction:.2g}%); "
            f"{_made(self.provenance)})"
        )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _made(made: Provenance) -> str:
    return ", ".join(x for x in (made.method, made.task, made.metric, made.intervention) if x)
