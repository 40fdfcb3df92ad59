"""What steering does, strength by strength, as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from sae_circuits.errors import OptionError, unknown
from sae_circuits.evaluation.measures import percentiles, resampled_means
from sae_circuits.graph import Provenance
from sae_circuits.graph.out import Saved
from sae_circuits.graph.tables import rows_table

if TYPE_CHECKING:
    import pandas

TABLES = ("texts", "metric")


@dataclass(frozen=True, eq=False)
class Steered(Saved):
    """What a model writes, and how well it does, under a change of growing strength.

    Args:
        changes: in words, with the site.
        strengths: as they were given.
        prompts: as texts.
        before: for each prompt, what the model writes by itself after it.
        texts: for each strength, what it writes after each prompt.
        values: of the metric, by strength and example; no column where no task was given.
        clean: of the metric on the model by itself, for each example.
        provenance: the model, the task, the metric, and how text was drawn.
    """

    changes: str
    strengths: tuple[float, ...]
    prompts: tuple[str, ...]
    before: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    values: Float[Tensor, "strength n"]
    clean: Float[Tensor, "n"]
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def curve(self) -> tuple[float, ...]:
        """The metric's mean over examples at each strength.

        Raises:
            OptionError: no task was given.
        """
        self._require_task()
        return tuple(self.values.double().mean(1).tolist())

    @property
    def band(self) -> tuple[tuple[float, float], ...]:
        """The 95% bootstrap interval of each mean over examples, the same draws at all strengths.

        Raises:
            OptionError: no task was given.
        """
        self._require_task()
        means = resampled_means(self.values.T, seed=self.provenance.seed or 0)
        return tuple(percentiles(column) for column in means.unbind(1))

    def to_pandas(self, table: str | None = None) -> pandas.DataFrame:
        """As a table.

        Args:
            table: "texts", one row for each strength and prompt, or "metric", one for each
                strength; by default the texts, where there are prompts.

        Raises:
            UnknownName: another table.
            OptionError: "metric", and no task was given.
        """
        table = table or ("texts" if self.prompts else "metric")
        if table not in TABLES:
            raise unknown("table", table, TABLES)
        if table == "texts":
            return rows_table(
                [
                    {"strength": strength, "prompt": prompt, "before": before, "after": after}
                    for strength, texts in zip(self.strengths, self.texts, strict=True)
                    for prompt, before, after in zip(self.prompts, self.before, texts, strict=True)
                ]
            )
        rows = zip(self.strengths, self.curve, self.band, strict=True)
        name = self.provenance.metric
        return rows_table(
            [{"strength": s, name: mean, "low": low, "high": high} for s, mean, (low, high) in rows]
        )

    def _require_task(self) -> None:
        if not self.values.shape[1]:
            raise OptionError("nothing was measured: give steer(...) a task")

    def __repr__(self) -> str:
        said = [f"{len(self.strengths)} strengths"]
        if self.prompts:
            n = len(self.prompts)
            said.append(f"{n} {'prompt' if n == 1 else 'prompts'}")
        if self.values.shape[1]:
            curve = self.curve
            said.append(f"{self.provenance.metric} {curve[0]:.3g} to {curve[-1]:.3g}")
        return f"Steered({self.changes}: {', '.join(said)})"
