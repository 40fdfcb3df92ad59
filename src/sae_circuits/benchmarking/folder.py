"""The folder of a benchmark: a record of how it is made, and a folder for each cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sae_circuits.errors import OutputError
from sae_circuits.evaluation.benchmark import Place
from sae_circuits.io import Record

RECORD = "record.json"


@dataclass(frozen=True)
class Folder:
    """Where cells, their scores and what is made of them are kept."""

    path: Path

    def begin(self, record: Record) -> None:
        """See that the folder is empty or holds cells that were made alike; note how.

        Raises:
            OutputError: it holds something else, or cells that were made otherwise.
        """
        there = self.path / RECORD
        if there.exists():
            if lines := Record.load(there).differences(record):
                raise OutputError(
                    f"{str(self.path)!r} holds a table with other settings ({'; '.join(lines)}): "
                    "choose another folder"
                )
        elif names := sorted(item.name for item in self.path.iterdir()):
            raise OutputError(
                f"{str(self.path)!r} has {names[0]!r} but no {RECORD}: choose another folder"
            )
        record.save(there)

    def end(self) -> Record:
        """Note in the record that the run has ended."""
        record = Record.load(self.path / RECORD).end()
        record.save(self.path / RECORD)
        return record

    def of(self, place: Place, method: str, seed: int) -> Path:
        """The folder of a cell."""
        names = (*place, method, f"seed{seed}")
        return self.path.joinpath("cells", *(name.replace("/", "-") for name in names))
