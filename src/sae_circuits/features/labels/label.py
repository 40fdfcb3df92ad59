"""What a label is: a text about a feature, and how well it foretells where the feature fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sae_circuits.graph.tables import rows_table

if TYPE_CHECKING:
    import pandas

Interval = tuple[float, float]


@dataclass(frozen=True)
class Label:
    """A text about a feature, with its test on prompts that it was not made from.

    Precision is the share of the tokens that the label points at on which the feature fires, recall
    the share of the tokens on which the feature fires that the label points at.

    Args:
        feature: its id.
        text: what people read.
        strategy: what made it.
        score: the harmonic mean of precision and recall, by which labels compare.
        precision, recall: on held-out tokens; None where undefined, or where nothing was tested.
        precision_interval, recall_interval: of 95%, by Wilson's formula.
        base_rate: the share of the held-out tokens on which the feature fires.
        shown: whether it is a label to show: the precision's interval lies above the base rate; or
            a person, or a file, said so, and there is nothing to test.
        provenance: what it was made from, as plain values.
        time: when it was made, in ISO 8601 (UTC); two labels that differ in nothing else are equal.
    """

    feature: int
    text: str
    strategy: str
    score: float | None = None
    precision: float | None = None
    recall: float | None = None
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None
    base_rate: float | None = None
    shown: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    time: str = field(default="", compare=False)

    @property
    def tested(self) -> bool:
        """Whether there is a number that says how good it is."""
        return self.precision is not None


def labels_table(labels: Sequence[Label]) -> pandas.DataFrame:
    """One row for each label: the fields of `Label`, with the ends of intervals as columns."""
    columns = list(_row(Label(0, "", "")))
    found = rows_table([_row(label) for label in labels]).reindex(columns=columns)
    return found.astype({"shown": bool})


def _row(label: Label) -> dict[str, Any]:
    row = {k: v for k, v in asdict(label).items() if not k.endswith("_interval")}
    for name in ("precision", "recall"):
        row[f"{name}_low"], row[f"{name}_high"] = getattr(label, f"{name}_interval") or (None, None)
    return row
