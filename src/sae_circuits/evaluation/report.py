"""What an evaluation of one circuit found, as a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import GraphError, OptionError, unknown
from sae_circuits.evaluation.curves import Curve, made_by
from sae_circuits.evaluation.measures import recovered
from sae_circuits.evaluation.minimal import Minimality
from sae_circuits.graph import Circuit, Provenance, Scores, SpanCircuit, SpanScores

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

RANDOM = ("faithfulness_random", "faithfulness_degrees", "random", "degrees")
"""Those that there are where random circuits were asked for."""


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
        minimality: where it was measured too.
    """

    of: Circuit | SpanCircuit
    examples: Mapping[str, Float[Tensor, "n"]]
    intervals: Mapping[str, tuple[float, float]]
    provenance: Provenance = field(default_factory=Provenance)
    curve: Curve | None = None
    minimality: Minimality | None = None

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
        """The names of this report's numbers: `MEASURES`, and of `ERRORS` and `RANDOM` what is."""
        return MEASURES + tuple(name for name in ERRORS + RANDOM if name in self.examples)

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
    def faithfulness_random(self) -> float:
        """Faithfulness of random circuits of as many edges, in the mean over draws."""
        return self._of_random("random")

    @property
    def faithfulness_degrees(self) -> float:
        """Faithfulness of random circuits in which each node has as many edges, likewise."""
        return self._of_random("degrees")

    @property
    def random(self) -> float:
        """The metric on random circuits of as many edges."""
        return self._random("random")

    @property
    def degrees(self) -> float:
        """The metric on random circuits in which each node has as many edges in and out."""
        return self._random("degrees")

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
        """How many edges the circuit has."""
        return len(self.of)

    @property
    def fraction(self) -> float:
        """The share of the graph's edges that the circuit has."""
        return self.of.fraction

    @property
    def weighted_edges(self) -> float:
        """How many edges of the unsplit graph it is worth (see `Circuit.weighted_edges`)."""
        return self.of.weighted_edges

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

    def with_minimality(self, minimality: Minimality) -> Report:
        """The same report with what each edge of its circuit is worth.

        Raises:
            GraphError: of another circuit.
        """
        if minimality.of != self.of:
            raise GraphError(f"{minimality!r} is not of the report's circuit, {self.of!r}")
        return replace(self, minimality=minimality)

    def save(self, folder: str | Path) -> Path:
        """Write the report, its circuit, scores, pictures and a page that shows them to a folder.

        Raises:
            OutputError: the folder holds something already, or cannot be written.
        """
        from sae_circuits.explorer.folder import save_report

        return save_report(self, folder)

    def _of_errors(self, name: str) -> float:
        return recovered(self._errors(name), clean=self.clean, corrupt=self.corrupt)

    def _of_random(self, name: str) -> float:
        return recovered(self._random(name), clean=self.clean, corrupt=self.corrupt)

    def _random(self, name: str) -> float:
        if name not in self.examples:
            raise OptionError("no random circuits were run: evaluate with n_random=1 or more")
        return self._mean(name)

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
            f"{made_by(self.provenance)})"
        )
