"""What comes of a shard of labels, in the form in which it is kept and sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from sae_circuits.errors import OptionError
from sae_circuits.features.labels.label import Label
from sae_circuits.features.labels.strategy import LeftOut
from sae_circuits.shards import Partial, Shard, ShardFolder

UNTESTED = "untested"  # what a label's provenance says of a test that got no answer
_INTERVALS = ("precision_interval", "recall_interval")


@dataclass(frozen=True)
class Made:
    """The labels of some features.

    Args:
        labels: by feature, and of each the best first.
        left: the features without a label that somebody was asked for.
        used: by strategy how much of what is limited went into them.
    """

    labels: tuple[Label, ...] = ()
    left: tuple[LeftOut, ...] = ()
    used: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether all that was asked was answered."""
        return not self.left and not any(UNTESTED in one.provenance for one in self.labels)

    def partial(self) -> Partial:
        """As what a job gives of a shard.

        Raises:
            OptionError: a provenance that JSON does not know.
        """
        rows = [{**vars(label), "provenance": dict(label.provenance)} for label in self.labels]
        said = {"labels": rows, "left": [asdict(one) for one in self.left], "used": self.used}
        try:
            text = json.dumps(said, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise _unplain(self.labels, error) from error
        return {"labels": torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy())}

    @classmethod
    def of(cls, partial: Partial) -> Made:
        """What `partial` gave."""
        said = json.loads(partial["labels"].numpy().tobytes())
        labels = tuple(_label(row) for row in said["labels"])
        return cls(labels, tuple(LeftOut(**one) for one in said["left"]), said["used"])


def _unplain(labels: Sequence[Label], error: Exception) -> OptionError:
    """What to say of labels of which one is not of plain values."""
    for label in labels:
        try:
            json.dumps(dict(label.provenance), allow_nan=False)
        except (TypeError, ValueError) as found:
            return OptionError(
                f"strategy {label.strategy!r} gives feature {label.feature} the provenance "
                f"{dict(label.provenance)!r}, and {found}: give plain values, and None for NaN"
            )
    return OptionError(f"a label is not of plain values: {error}")


def _label(row: dict[str, Any]) -> Label:
    ends = {name: None if row[name] is None else tuple(row[name]) for name in _INTERVALS}
    return Label(**{**row, **ends})


@dataclass(frozen=True)
class LabelFolder:
    """A folder of shards of which those are asked again to which somebody gave no answer."""

    folder: ShardFolder

    def has(self, shard: Shard) -> bool:
        """Whether a shard is done, and nothing is left out in it.

        Raises:
            FileFormatError: it is damaged, or of another job.
        """
        return self.folder.has(shard) and Made.of(self.folder.read(shard)).whole

    def write(self, shard: Shard, partial: Partial) -> None:
        """Keep what came of a shard.

        Raises:
            OutputError: the folder cannot be written, or the disk is full.
        """
        self.folder.write(shard, partial)

    def used(self) -> dict[str, dict[str, int]]:
        """By strategy how much of what is limited went into what is kept."""
        found: dict[str, dict[str, int]] = {}
        for shard in self.folder.shards:
            if self.folder.has(shard):
                for strategy, amounts in Made.of(self.folder.read(shard)).used.items():
                    sums = found.setdefault(strategy, {})
                    for name, n in amounts.items():
                        sums[name] = sums.get(name, 0) + n
        return found
